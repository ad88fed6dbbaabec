//! Hosts are heard before strangers.

use mapping::{Revision, Snapshot};
use net::lan::Socket;

/// Which hosts the sockets of discovery prefer: a flood of strangers keeps out none that has a
/// lease.
#[derive(Debug, Default)]
pub(super) struct Preferred {
    /// In which revision they were read. Leases begin and end with names.
    read_in: Option<Revision>,
}

impl Preferred {
    /// Looks whether leases began or ended.
    pub(super) fn update<'a>(
        &mut self,
        sockets: impl Iterator<Item = &'a mut Socket>,
        snapshot: &Snapshot,
    ) {
        let names_in = Some(snapshot.names_revision());
        if self.read_in == names_in {
            return;
        }
        self.read_in = names_in;
        for socket in sockets {
            let hosts = snapshot.hosts().filter(|host| host.lease.is_some());
            // where the kernel has no memory for a filter some are heard twice
            let _unfiltered = socket.prefer(hosts.map(|host| host.mac));
        }
    }
}
