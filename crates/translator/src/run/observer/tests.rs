//! More sessions than are looked at in a row.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use mapping::{Admission, ExternalPort, InternalPort, Nsp, Protocol};

use super::*;
use crate::config::Config;
use crate::frame::Frame;
use crate::pool::PoolRange;
use crate::verdict::Verdict;
use crate::wire::vnet;

#[test]
fn every_session_is_listed_once_whatever_the_filter() {
    let translator = busy(MANY);
    let all = SessionFilter::default();
    let sessions = list(&translator, all);
    let ids: BTreeSet<_> = sessions.iter().map(|session| session.id).collect();

    assert_eq!((sessions.len(), ids.len()), (MANY.into(), MANY.into()));
    let last = sessions.last().unwrap();
    let behind = SessionFilter {
        remote: Some(mapping::Prefix6::new(last.ends.remote.0, 128).unwrap()),
        ..all
    };
    assert_eq!(list(&translator, behind), std::slice::from_ref(last));
    let id = SessionFilter {
        id: Some(last.id),
        ..all
    };
    assert_eq!(list(&translator, id), std::slice::from_ref(last));
}

#[test]
fn those_that_fit_end_a_part_at_a_time() {
    let mut translator = busy(MANY);
    let half = SessionFilter {
        external_port: Some(PORTS[0]),
        ..SessionFilter::default()
    };
    let mut cursor = Some(SessionCursor::default());
    let (mut ended, mut parts) = (0, 0);

    while let Some(from) = cursor {
        let part = end(&mut translator, half, from, NOW);
        assert!(part.count <= ENDED_AT_ONCE.into());
        (ended, parts, cursor) = (ended + part.count, parts + 1, part.next);
    }

    assert_eq!(ended, u64::from(MANY) / 2);
    assert!(parts > 1, "it takes more than one part");
    let left = list(&translator, SessionFilter::default());
    assert_eq!(left.len() as u64, u64::from(MANY) - ended);
    assert!(left.iter().all(|it| it.ends.external.1 == PORTS[1]));
}

#[test]
fn id_of_a_session_that_has_gone_does_not_end_the_next_in_its_place() {
    let mut translator = busy(1);
    let first = list(&translator, SessionFilter::default()).pop().unwrap();
    let filter = SessionFilter {
        id: Some(first.id),
        ..SessionFilter::default()
    };
    assert_eq!(end(&mut translator, filter, SessionCursor(0), NOW).count, 1);
    knock(&mut translator, 7, NOW);
    let next = list(&translator, SessionFilter::default()).pop().unwrap();

    assert_eq!(next.id.number, first.id.number, "the place is taken again");
    assert_eq!(end(&mut translator, filter, SessionCursor(0), NOW).count, 0);
}

fn list(translator: &Translator, filter: SessionFilter) -> Vec<gateway::Session> {
    let mut sessions = Vec::new();
    let mut cursor = Some(SessionCursor::default());
    while let Some(from) = cursor {
        let page = page(translator, filter, from, NOW);
        sessions.extend(page.sessions);
        cursor = page.next;
    }
    sessions
}

/// A translator with so many sessions.
fn busy(sessions: u16) -> Translator {
    let pool = PoolRange::new([192, 168, 64, 192].into(), 26).unwrap();
    let mut translator = Translator::new(Config::new(pool), [7; 16], NOW);
    translator.handle_nsps(&[Nsp::new(NSP).unwrap()], NOW);
    let open = PORTS.map(|port| {
        let (external, internal) = (ExternalPort::new(port), InternalPort::new(port));
        Admission::Open(
            SERVER,
            Protocol::Udp,
            external.unwrap(),
            mapping::AdmissionRule::to(internal.unwrap()),
        )
    });
    translator.handle_admissions(&open, NOW);
    for n in 0..sessions {
        knock(&mut translator, n, NOW);
    }
    translator
}

/// A datagram of a remote of its own network.
fn knock(translator: &mut Translator, n: u16, now: Instant) {
    let remote = Ipv6Addr::new(0x2001, 0xdb8, 0xf, n, 0, 0, 0, 1);
    let port = PORTS[usize::from(n % 2)];
    let mut packet = vec![0; vnet::LEN];
    packet.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
    packet.extend(remote.octets());
    packet.extend(Nsp::new(NSP).unwrap().embed(SERVER).octets());
    packet.extend([0x0f, 0xa0]);
    packet.extend(port.to_be_bytes());
    packet.extend([0, 8, 0x12, 0x34]);
    let mut frame = Frame::new();
    frame.space()[..packet.len()].copy_from_slice(&packet);
    frame.filled(packet.len());
    assert_eq!(translator.handle_packet(&mut frame, now), Verdict::Forward);
}

const NOW: Instant = Instant::from_nanos(5_000_000_000);

const MANY: u16 = 5000;

const NSP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 1, 0, 0, 0, 0);

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 10);

const PORTS: [u16; 2] = [5000, 5001];
