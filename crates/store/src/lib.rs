//! The SQLite store of Portico, and the only SQL.
//!
//! **Invariant:** keeps what a [`mapping::Delta`] says and gives back what it kept; decides
//! nothing, reads no clock. One writer connection: WAL, `synchronous=FULL`, a single
//! statement for each batch.
//!
//! Start from [`Store`]; [`AuditReader`] reads beside it.
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod audit;
mod decisions;
mod image;
mod mappings;
mod open;
mod rows;
mod statements;
mod store;

pub use audit::{AuditCursor, AuditLine, AuditPage, AuditReader, ReadAuditError};
pub use image::LoadError;
pub use open::OpenStoreError;
pub use store::{CommitError, Store};

#[cfg(test)]
mod tests;
