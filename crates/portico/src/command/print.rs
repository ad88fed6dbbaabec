//! The two standard streams.

use std::io::{self, Write as _};

use super::Failure;

/// Prints text at once.
///
/// # Errors
/// When it cannot be written. A reader that has gone away, as `head` does, has seen enough: that
/// ends the program too, quietly and well.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    written(io::stdout().write_all(text.as_bytes()))
}

/// Says what became of something that was written to standard output.
///
/// # Errors
/// As [`text`].
pub(crate) fn written(written: io::Result<()>) -> Result<(), Failure> {
    match written.and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::seen_enough()),
        Err(error) => Err(Failure {
            code: Failure::FAILED,
            message: format!("cannot write to standard output: {error}"),
        }),
    }
}

pub(super) fn error(message: &str) {
    // there is nowhere else to say it
    let _gone = writeln!(io::stderr(), "portico: {message}");
}
