//! Clock, sockets, TUN, netlink and namespaces: the only crate with unsafe code.
