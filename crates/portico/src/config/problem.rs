//! What is wrong with the file, framed for a person.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::string::FromUtf8Error;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};

/// A mistake in the configuration; it prints with the line and a caret.
#[derive(Debug)]
pub struct Problem(String);

impl Problem {
    /// Frames a message about a place in the text.
    pub(super) fn new(name: &str, text: &str, message: String, span: Option<Range<usize>>) -> Self {
        let mut diagnostic = MietteDiagnostic::new("the configuration is not valid");
        let Some(span) = span else {
            return Self(format!("the configuration {name} is not valid: {message}"));
        };
        diagnostic = diagnostic.with_label(LabeledSpan::at(span, message));
        let report = miette::Report::new(diagnostic)
            .with_source_code(NamedSource::new(name, text.to_owned()));
        let mut shown = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
        match handler.render_report(&mut shown, report.as_ref()) {
            Ok(()) => Self(shown.trim_start_matches([' ', '×']).to_owned()),
            Err(fmt::Error) => Self(format!("the configuration {name} is not valid")),
        }
    }

    pub(super) fn syntax(name: &str, text: &str, error: &toml::de::Error) -> Self {
        Self::new(name, text, error.message().to_owned(), error.span())
    }

    pub(super) fn encoding(path: &Path, error: &FromUtf8Error) -> Self {
        let start = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let span = start..start.saturating_add(char::REPLACEMENT_CHARACTER.len_utf8());
        Self::new(
            &path.display().to_string(),
            &text,
            "not UTF-8".to_owned(),
            Some(span),
        )
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self(format!(
            "cannot read the configuration {}: {error}",
            path.display()
        ))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for Problem {}
