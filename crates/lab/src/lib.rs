//! A simulated home, provider and Internet in network namespaces.
