//! The SQLite store of Portico, and the only SQL.
