//! Contiguous ports as one (RFC 7753).

use std::num::NonZeroU16;
use std::sync::Arc;

use super::Core;
use super::permit::Grade;
use crate::{
    External, ExternalPort, Grant, InternalPort, MapRequest, MapSetRequest, Mapping, Now, Outcome,
    Refusal, Waits,
};

impl Core {
    /// Opens as many of the ports, from the first on, as policy, quota and other mappings allow
    /// (RFC 7753 §4.2: never more than asked).
    pub(super) fn map_set(&mut self, request: &MapSetRequest, now: Now) -> (Outcome, Waits) {
        let first = match self.first_of_set(request, now) {
            Ok(first) => first,
            Err(refusal) => return (Outcome::Refused(refusal), Waits::default()),
        };
        let mut last = Arc::clone(&first);
        let mut packets = first.changed_in;
        let mut lifetime = first.expires.map(|end| self.snapshot.remaining(end, now));
        let mut size = NonZeroU16::MIN;
        while size < request.size {
            let Some(next) = self.next_of_set(&request.first, &last, now) else {
                break;
            };
            packets = packets.max(next.changed_in);
            let left = next.expires.map(|end| self.snapshot.remaining(end, now));
            lifetime = match (lifetime, left) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            size = size.saturating_add(1);
            last = next;
        }
        let external_address = self.snapshot.external_address_of(&first);
        let grant = Grant::MappedSet {
            first,
            size,
            lifetime,
            external_address,
        };
        let waits = Waits::for_packets(packets);
        (Outcome::Granted(grant), waits)
    }

    fn first_of_set(&mut self, request: &MapSetRequest, now: Now) -> Result<Arc<Mapping>, Refusal> {
        let mut first = request.first.clone();
        let internal = first.internal_port.get();
        if let External::Suggested(Some(port)) = first.external
            && request.parity
            && port.get() % 2 != internal % 2
        {
            // the internal port is tried next, and has the parity that is asked for
            first.external = External::Suggested(ExternalPort::new(internal));
        }
        self.try_map(&first, now)
    }

    /// Opens the port behind `last`; nobody is asked about it.
    fn next_of_set(
        &mut self,
        first: &MapRequest,
        last: &Mapping,
        now: Now,
    ) -> Option<Arc<Mapping>> {
        let internal = InternalPort::new(last.internal_port.get().checked_add(1)?)?;
        let external = ExternalPort::new(last.external_port.get().checked_add(1)?)?;
        let request = MapRequest {
            internal_port: internal,
            external: External::Required(external),
            // the first one stands for all
            memo: None,
            ..first.clone()
        };
        let host = self.subject(request.subject).ok()?;
        let opens = self.grade(&host, &request, internal.get()) == Grade::Opens
            && self.grade_external(&host, &request, external) == Grade::Opens;
        if !opens {
            return None;
        }
        self.try_map(&request, now).ok()
    }
}
