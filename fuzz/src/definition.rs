//! Pipelines, the parameters of their runs, and the expressions in them.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};
use taskiq_flow_core::dag::DagFormat;
use taskiq_flow_core::definition::InputSchema;
use taskiq_flow_core::document::Format;
use taskiq_flow_core::expr::{Expr, Inputs, MAX_SOURCE, Template};
use taskiq_flow_core::load::{load_json, load_text};
use taskiq_flow_core::plan::Plan;

/// The first byte chooses the format of the rest.
pub fn pipeline(data: &[u8]) {
    let Some((format, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let format = [Format::Yaml, Format::Toml, Format::Json][usize::from(*format) % 3];
    let pipelines = match load_text("fuzz", text, format) {
        Ok(pipelines) => pipelines,
        Err(mistakes) => {
            assert!(mistakes.iter().len() > 0 && !mistakes.to_string().is_empty());
            return;
        }
    };
    for pipeline in pipelines {
        let again =
            load_json(pipeline.source.clone()).expect("what was accepted is accepted as it is stored");
        assert_eq!(again[0].source, pipeline.source);
        let plan = Plan::new(Arc::new(pipeline)).expect("what loads has a plan");
        let dag = plan.dag();
        let path = dag.critical_path(None);
        assert!(!path.path.is_empty() || dag.nodes().is_empty());
        assert_eq!(dag.topological_order().len(), dag.nodes().len());
        for format in DagFormat::ALL {
            let drawn = dag.render(format, &[]).into_text();
            assert!(!drawn.is_empty());
            assert!(format != DagFormat::Svg || !drawn.to_lowercase().contains("<script"), "{drawn}");
        }
        let _checked = plan.check_parameters(Map::new());
    }
}

/// `{"inputs": {name: schema}, "given": {name: value}}`.
pub fn parameters(data: &[u8]) {
    let Ok(Value::Object(mut all)) = serde_json::from_slice::<Value>(data) else { return };
    let (Some(Value::Object(inputs)), Some(Value::Object(given))) =
        (all.shift_remove("inputs"), all.shift_remove("given"))
    else {
        return;
    };
    let Ok(schema) = InputSchema::from_fields(inputs.into_iter().collect()) else { return };
    let _shown = schema.to_json_schema();
    match schema.check(&[], &[], given) {
        Ok(complete) => {
            assert!(complete.keys().all(|name| schema.contains(name)));
            assert_eq!(
                schema.check(&[], &[], complete.clone()).as_ref(),
                Ok(&complete),
                "defaults do not fit"
            );
        }
        Err(errors) => assert!((1..=100).contains(&errors.len())),
    }
}

static INPUTS: LazyLock<Inputs> = LazyLock::new(|| {
    Inputs::from_iter([
        ("n", json!(7)),
        ("x", json!(0.5)),
        ("yes", json!(true)),
        ("none_", Value::Null),
        ("text", json!("Grüße, <b>world</b> {{ n }}\u{202e}")),
        ("list", json!([3, 1, 2, "a", null, [1], {"k": 1}])),
        ("map", json!({"a": 1, "b": {"c": [1, 2]}, "": null})),
        ("big", json!(18_446_744_073_709_551_615_u64)),
        ("low", json!(i64::MIN)),
    ])
});

/// An expression and a template.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Expr::compile(text) {
        Ok(expression) => {
            assert!(text.len() <= MAX_SOURCE);
            for name in expression.names() {
                let place = expression.place_of(name).expect("a name has a place");
                assert_eq!(text.get(place), Some(name.as_str()));
            }
            let _value = expression.evaluate(&INPUTS).map_err(|error| error.to_string());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(template) = Template::compile(text) {
        let _text = template.render(&INPUTS).map_err(|error| error.to_string());
    }
}
