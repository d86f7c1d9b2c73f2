//! `dag`: the graph of a pipeline.

mod what_if;

use std::process::ExitCode;
use std::sync::Arc;

use taskiq_flow::core::dag::DagFormat as Format;
use taskiq_flow::core::plan::Plan;

use crate::args::{DagArgs, DagFormat};
use crate::commands;
use crate::output::{Failure, text};

pub(crate) fn run(args: &DagArgs) -> Result<ExitCode, Failure> {
    let pipeline = commands::one_pipeline(&args.file, args.id.as_deref())?;
    let plan = Plan::new(Arc::new(pipeline)).map_err(|errors| {
        Failure::wrong(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    if let Some(workers) = args.what_if {
        return what_if::run(&plan, workers, args.durations.as_deref(), args.format);
    }
    let format = match args.format {
        DagFormat::Ascii => Format::Ascii,
        DagFormat::Json => Format::Json,
        DagFormat::Dot => Format::Dot,
        DagFormat::Mermaid => Format::Mermaid,
        DagFormat::Svg => Format::Svg,
        DagFormat::Cytoscape => Format::Cytoscape,
    };
    text(&plan.dag().render(format, &[]).into_text());
    Ok(ExitCode::SUCCESS)
}
