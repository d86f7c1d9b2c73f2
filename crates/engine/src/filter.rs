//! Which events somebody wants to be told of.

use taskiq_flow_core::diagnostic::nearest;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::pattern::{BadPattern, Pattern};
use taskiq_flow_core::run::{EventView, Fact};

use crate::hub::Watched;

/// Which events a hook is told of: by their type and by their pipeline. The default is all.
///
/// ```
/// use taskiq_flow_engine::EventFilter;
///
/// let filter = EventFilter::all().types(["PipelineErrorEvent", "Step*"])?.pipelines(["audio_*"])?;
/// assert!(EventFilter::all().types(["PipelineErorEvent"]).is_err());
/// # let _ = filter;
/// # Ok::<(), taskiq_flow_engine::EventFilterError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// None: of every type.
    types: Option<Vec<&'static str>>,
    /// None: of every pipeline.
    pipelines: Option<Vec<Pattern>>,
}

/// A text that could never let an event through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventFilterError {
    /// No event has such a type.
    #[error("no event has the type `{given}`{}", hint(nearest))]
    Type {
        /// What was given.
        given: String,
        /// The type that is most like it.
        nearest: Option<&'static str>,
    },
    /// No pipeline has such an id.
    #[error("no pipeline has the id {given:?}: {reason}")]
    Pipeline {
        /// What was given.
        given: String,
        /// Why not.
        reason: BadPattern,
    },
}

impl EventFilter {
    /// Lets every event through.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only events of these types, as the guide's page on events names them; `*` stands for any text.
    ///
    /// # Errors
    /// One of them is no type and stands for none.
    pub fn types<S: AsRef<str>>(
        mut self,
        types: impl IntoIterator<Item = S>,
    ) -> Result<Self, EventFilterError> {
        let mut chosen = Vec::new();
        for given in types {
            let given = given.as_ref();
            let matching = given.parse::<Pattern>().ok().into_iter().flat_map(|pattern| {
                Fact::TYPES.into_iter().filter(move |name| pattern.matches(name)).collect::<Vec<_>>()
            });
            let before = chosen.len();
            chosen.extend(matching);
            if chosen.len() == before {
                let nearest = nearest(given, Fact::TYPES);
                return Err(EventFilterError::Type { given: given.to_owned(), nearest });
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        self.types = Some(chosen);
        Ok(self)
    }

    /// Only events of these pipelines; `*` inside an id stands for any text.
    ///
    /// # Errors
    /// One of them can be no id.
    pub fn pipelines<S: AsRef<str>>(
        mut self,
        pipelines: impl IntoIterator<Item = S>,
    ) -> Result<Self, EventFilterError> {
        let pattern = |given: S| {
            let given = given.as_ref();
            given.parse().map_err(|reason| EventFilterError::Pipeline { given: given.to_owned(), reason })
        };
        self.pipelines = Some(pipelines.into_iter().map(pattern).collect::<Result<_, _>>()?);
        Ok(self)
    }

    /// Whether an event passes.
    pub fn passes(&self, event: &EventView) -> bool {
        self.passes_type(event.event.fact.type_name()) && self.passes_pipeline(&event.pipeline_id)
    }

    pub(crate) fn passes_type(&self, name: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&name))
    }

    pub(crate) fn passes_pipeline(&self, id: &PipelineId) -> bool {
        let any = |patterns: &Vec<Pattern>| patterns.iter().any(|pattern| pattern.matches(id.as_str()));
        self.pipelines.as_ref().is_none_or(any)
    }

    /// The types that pass, by name.
    pub(crate) fn chosen_types(&self) -> &[&'static str] {
        self.types.as_deref().unwrap_or(&Fact::TYPES)
    }

    /// What a watcher has to watch, to be told of all that passes: where the pipelines are named, no others.
    pub(crate) fn watched(&self) -> Watched {
        let named = self.pipelines.as_ref().and_then(|patterns| {
            // A pattern with a star is no id.
            patterns.iter().map(|pattern| pattern.as_str().parse::<PipelineId>().ok()).collect()
        });
        named.map_or(Watched::All, Watched::Pipelines)
    }
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; the types are {}", Fact::TYPES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_chosen_by_name_and_by_pattern() {
        let filter =
            EventFilter::all().types(["Pipeline*ErrorEvent", "PipelineErrorEvent", "Signal*"]).unwrap();
        assert_eq!(filter.chosen_types(), ["PipelineErrorEvent", "SignalEvent"]);
        assert!(filter.passes_type("SignalEvent") && !filter.passes_type("StepErrorEvent"));
        let error = EventFilter::all().types(["PipelineErorEvent"]).unwrap_err().to_string();
        assert_eq!(error, "no event has the type `PipelineErorEvent`; did you mean `PipelineErrorEvent`?");
        assert!(EventFilter::all().types([""]).unwrap_err().to_string().contains("the types are Pipeline"));
        let error = EventFilter::all().pipelines(["a\nb"]).unwrap_err().to_string();
        assert_eq!(error, "no pipeline has the id \"a\\nb\": it has a control character");
    }

    #[test]
    fn only_named_pipelines_are_watched_where_all_are_named() {
        let id = |text: &str| text.parse::<PipelineId>().unwrap();
        let of = |list: &[&str]| EventFilter::all().pipelines(list).unwrap();
        assert_eq!(of(&["a", "b"]).watched(), Watched::Pipelines([id("a"), id("b")].into()));
        assert_eq!(of(&["a", "b*"]).watched(), Watched::All);
        assert_eq!(EventFilter::all().watched(), Watched::All);
        assert!(of(&["b*"]).passes_pipeline(&id("bc")) && !of(&["b*"]).passes_pipeline(&id("a")));
        assert!(!of(&[]).passes_pipeline(&id("a")));
    }
}
