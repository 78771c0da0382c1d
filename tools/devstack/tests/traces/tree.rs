//! The spans of a trace, by their parents.

use std::{collections::BTreeMap, fmt};

use crate::receiver::Seen;

/// The spans of one trace. One that was told twice is there once.
pub(crate) struct Tree(BTreeMap<String, Seen>);

impl Tree {
    pub(crate) fn of(spans: Vec<Seen>) -> Self {
        Self(spans.into_iter().map(|span| (span.id.clone(), span)).collect())
    }

    pub(crate) fn spans(&self) -> impl Iterator<Item = &Seen> {
        self.0.values()
    }

    pub(crate) fn parent(&self, span: &Seen) -> Option<&Seen> {
        self.0.get(span.parent.as_ref()?)
    }

    /// Spans whose parent nobody told.
    pub(crate) fn orphans(&self) -> Vec<&Seen> {
        self.spans().filter(|span| span.parent.is_some() && self.parent(span).is_none()).collect()
    }

    /// The names from a span to the first one.
    pub(crate) fn way<'a>(&'a self, from: &'a Seen) -> Vec<&'a str> {
        let all = std::iter::successors(Some(from), |span| self.parent(span));
        // A circle would have no end.
        all.take(100).map(|span| span.name.as_str()).collect()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, span: &Seen, depth: usize) -> fmt::Result {
        let shown = |name: &str| {
            let found = span.attributes.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| format!(" {value}")).unwrap_or_default()
        };
        let (outcome, event) = (shown("backburner.outcome"), shown("backburner.event_type"));
        let (generation, attempt) = (shown("backburner.generation"), shown("backburner.attempt"));
        let (indent, links) = ("  ".repeat(depth), span.links.join(","));
        writeln!(
            f,
            "{indent}{} [{} {}]{event}{outcome}{generation}{attempt} {} -> {links}",
            span.name, span.service, span.kind, span.id
        )?;
        let children = self.spans().filter(|child| child.parent.as_ref() == Some(&span.id));
        children.filter(|_| depth < 30).try_for_each(|child| self.write(f, child, depth + 1))
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tops = self.spans().filter(|span| self.parent(span).is_none());
        tops.into_iter().try_for_each(|top| self.write(f, top, 0))
    }
}
