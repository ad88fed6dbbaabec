//! Facts of the core as events of the API.

use mapping::{Change, Now, Revision, Snapshot};

use crate::model::{EventData, HostView, MappingView, PinholeView, PrefixView};

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `REVISION.INDEX`: a reader that comes back names the last one it has seen.
    pub(crate) id: String,
    /// The fact, dotted.
    pub(crate) name: &'static str,
    /// What it is about, absent for `resync`.
    pub(crate) data: Option<EventData>,
}

impl Event {
    /// Tells the reader to read everything anew: the facts since its last visit are forgotten.
    pub(crate) fn resync(revision: Revision) -> Self {
        Self {
            id: format!("{}.0", revision.0),
            name: "resync",
            data: None,
        }
    }
}

/// Returns the events after `seen`, oldest first.
pub(crate) fn since(seen: Cursor, snapshot: &Snapshot, now: Now) -> Vec<Event> {
    // the facts of one revision are numbered from 1; a cursor may stand between them
    let before = Revision(seen.revision.0.saturating_sub(1));
    let Some(changes) = snapshot.changes_since(before) else {
        return vec![Event::resync(snapshot.revision())];
    };
    let mut index: u64 = 0;
    let mut last = Revision::default();
    let mut events = Vec::new();
    for (revision, change) in &changes {
        index = if *revision == last {
            index.saturating_add(1)
        } else {
            1
        };
        last = *revision;
        if (*revision, index) > (seen.revision, seen.index) {
            let (name, data) = describe(change, snapshot, now);
            let id = format!("{}.{index}", revision.0);
            events.push(Event {
                id,
                name,
                data: Some(data),
            });
        }
    }
    events
}

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    revision: Revision,
    index: u64,
}

impl Cursor {
    /// A reader that has seen everything of a revision.
    pub(crate) const fn at(revision: Revision) -> Self {
        Self {
            revision,
            index: u64::MAX,
        }
    }

    /// Parses `Last-Event-ID`.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let (revision, index) = id.split_once('.')?;
        let index = match index.parse().ok()? {
            0 => u64::MAX, // a resync stands for the whole revision
            index => index,
        };
        Some(Self {
            revision: Revision(revision.parse().ok()?),
            index,
        })
    }
}

fn describe(change: &Change, snapshot: &Snapshot, now: Now) -> (&'static str, EventData) {
    let mapping = |mapping| MappingView::new(mapping, snapshot, now);
    let host = |host| EventData::Host(HostView::new(host, snapshot, now));
    let waiting = |it| EventData::Mapping(MappingView::waiting(it, snapshot, now));
    let pinhole = |it| EventData::Pinhole(PinholeView::new(it, snapshot, now));
    let prefix = |generation| EventData::Prefix(PrefixView::new(generation, snapshot, now));
    match change {
        Change::HostAppeared(it) => ("host.appeared", host(it)),
        Change::HostGone(it) => ("host.gone", host(it)),
        Change::HostNamed { host: it, .. } => ("host.named", host(it)),
        Change::HostPolicyChanged(it) => ("host.policy", host(it)),
        Change::MappingClosed {
            mapping: it,
            reason,
        } => {
            let reason = reason.as_str().to_owned();
            (
                "mapping.closed",
                EventData::Closed {
                    mapping: mapping(it),
                    reason,
                },
            )
        }
        Change::MappingDenied(it) => ("mapping.denied", waiting(it)),
        Change::MappingOpened(it) => ("mapping.opened", EventData::Mapping(mapping(it))),
        Change::MappingRenewed(it) => ("mapping.renewed", EventData::Mapping(mapping(it))),
        Change::MappingRequested(it) => ("mapping.requested", waiting(it)),
        Change::PinholeClosed { pinhole: it, .. } => ("pinhole.closed", pinhole(it)),
        Change::PinholeOpened(it) => ("pinhole.opened", pinhole(it)),
        Change::PinholeRenewed(it) => ("pinhole.renewed", pinhole(it)),
        Change::PrefixChanged(it) => ("prefix.changed", prefix(it)),
        Change::PrefixWithdrawn(it) => ("prefix.withdrawn", prefix(it)),
        Change::WanChanged => (
            "wan.changed",
            EventData::Wan {
                addresses: snapshot.wan_addresses().to_vec(),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mapping::{BootId, Core, Instant, Mac, Policy, PrefixRequest, Request, Site, Wall};

    use super::*;

    #[test]
    fn reader_that_comes_back_gets_what_it_missed_once() {
        let (core, now) = busy_home();
        let snapshot = core.snapshot();
        let all = since(Cursor::parse("0.0").unwrap(), snapshot, now);
        assert!(all.len() >= 3, "{all:?}");

        for (position, event) in all.iter().enumerate() {
            let rest = since(Cursor::parse(&event.id).unwrap(), snapshot, now);
            assert_eq!(rest, all[position + 1..]);
        }
        assert_eq!(since(Cursor::at(snapshot.revision()), snapshot, now), []);
    }

    #[test]
    fn nonsense_is_no_cursor() {
        for id in ["", "1", "x.1", "1.x", "-1.2", "1.2.3"] {
            assert_eq!(Cursor::parse(id), None, "{id}");
        }
    }

    fn busy_home() -> (Core, Now) {
        let now = Now {
            mono: Instant::from_nanos(1),
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let mut core = Core::new(site, Policy::default(), [0; 16], BootId([1; 16]), now);
        let prefix = |text: &str| {
            Request::Prefix(PrefixRequest {
                delegated: text.parse().unwrap(),
                nsp: None,
                old_valid: Duration::from_secs(9),
            })
        };
        core.handle_request(&prefix("2001:db8:64::/56"), now);
        core.finish(now);
        core.handle_request(&prefix("2001:db8:65::/56"), now);
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let addr = core.snapshot().lease_candidate(mac, |_| false).unwrap();
        let lifetime = Duration::from_secs(60);
        let lease = mapping::LeaseRequest {
            mac,
            addr,
            lifetime,
            declared_name: None,
        };
        core.handle_request(&Request::Lease(lease), now);
        core.finish(now);
        (core, now)
    }
}
