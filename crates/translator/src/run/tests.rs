//! The thread's parts between real network namespaces.

mod home;
mod keeping;
mod links;
mod passing;
mod pieces;
mod waiting;
