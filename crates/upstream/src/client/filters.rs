//! Who may come in, passed on to a gateway that can filter (RFC 6887 §13.3).
//!
//! Many cannot; then the port is open there to everybody, and the filters are kept here alone,
//! where they are kept in any case.

use std::num::NonZeroU16;
use std::time::Duration;

use mapping::{Filters, Instant};
use pcp::wire::{Filter, PcpOption, ResultCode, emit_option};
use rand::Rng;

use super::{Client, Dialect};
use crate::address::unspecified;
use crate::port::{Phase, Port, PortKey, Remotes};

impl<R: Rng> Client<R> {
    /// Takes other filters for a port; one that is open or asked for is asked for anew.
    pub(super) fn filter(&mut self, key: PortKey, filters: &Filters) {
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        if port.filters == *filters {
            return;
        }
        port.filters = Filters::clone(filters);
        port.unfiltered = false;
        let said = match port.phase {
            Phase::Asking { backoff, .. } => backoff.is_some(),
            Phase::Open { .. } => true,
            Phase::Closing { .. } | Phase::Refused { .. } => false,
        };
        if said && self.dialect == Dialect::Pcp {
            port.phase = Phase::FRESH;
            self.flying.remove(&key);
        }
    }

    /// Returns what to say of remotes.
    pub(super) fn remotes(&self, key: PortKey, now: Instant) -> Remotes {
        let Some(port) = self.table.get(key) else {
            return Remotes::Unsaid;
        };
        let held = self.hold_filters.is_some_and(|until| until > now);
        if !held && !port.unfiltered && port.filters_of(key).next().is_some() {
            Remotes::Some
        } else if port.told == Remotes::Some {
            Remotes::All
        } else {
            Remotes::Unsaid
        }
    }

    /// A port was refused because of its filters: it is asked for without them.
    pub(super) fn handle_unfiltered(
        &mut self,
        key: PortKey,
        code: ResultCode,
        life: Duration,
        now: Instant,
    ) -> bool {
        let Some(port) = self.table.get_mut(key) else {
            return false;
        };
        match (code, port.telling) {
            (_, Remotes::Unsaid) => return false,
            (ResultCode::ExcessiveRemotePeers, Remotes::Some) => port.unfiltered = true,
            (ResultCode::ExcessiveRemotePeers, Remotes::All) => port.told = Remotes::Unsaid,
            (ResultCode::MalformedOption | ResultCode::UnsuppOption, _) => {
                port.told = Remotes::Unsaid;
                self.hold_filters = Some(now + life);
            }
            _ => return false,
        }
        port.phase = Phase::FRESH;
        self.counters.refused = self.counters.refused.saturating_add(1);
        self.flying.remove(&key);
        self.table.line_up(key);
        true
    }

    /// Nothing that was refused before counts any more.
    pub(super) fn forget_holds(&mut self) {
        (self.hold_new, self.hold_all) = (None, None);
        (self.hold_third_party, self.hold_filters) = (None, None);
    }
}

/// RFC 6887 §13.3: filters add up over renewals, so those from before are taken away first.
pub(super) fn emit(key: PortKey, port: &Port, options: &mut Vec<u8>) {
    if port.telling == Remotes::Unsaid {
        return;
    }
    let all = Filter {
        prefix_len: 0,
        remote_port: 0,
        remote_addr: unspecified(key.addr),
    };
    emit_option(PcpOption::Filter(all), options);
    if port.telling == Remotes::All {
        return;
    }
    for filter in port.filters_of(key) {
        let some = Filter {
            prefix_len: filter.prefix.len(),
            remote_port: filter.port.map_or(0, NonZeroU16::get),
            remote_addr: filter.prefix.addr(),
        };
        emit_option(PcpOption::Filter(some), options);
    }
}
