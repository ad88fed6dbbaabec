//! The thread's parts between real network namespaces.

mod home;
mod links;
mod passing;
