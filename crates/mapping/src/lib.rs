//! The heart of Portico: hosts, names, mappings, policy and prefixes, decided without any I/O.
