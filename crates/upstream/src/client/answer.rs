//! What is heard.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mapping::{ExternalPort, Instant, Protocol};
use natpmp::wire as natpmp_wire;
use pcp::wire::{Body, Map, PcpOption, Response, ResultCode};
use rand::Rng;

use super::{Client, Dialect, Probe};
use crate::address::narrow;
use crate::backoff::renewal;
use crate::counters::DropReason;
use crate::epoch::Epoch;
use crate::port::{Granted, LIFETIME_MAX, Phase, PortKey, Refused};

impl<R: Rng> Client<R> {
    /// Takes a datagram of the upstream side: an answer from port 5351, or an announcement.
    pub fn handle_datagram(&mut self, bytes: &[u8], source: SocketAddr, now: Instant) {
        self.last_seen = now;
        // RFC 6887 §8.3, RFC 6886 §3.2: nobody else's
        let server = self.link.map(|link| link.server);
        if server != Some(source.ip().to_canonical()) || source.port() != SERVER_PORT {
            return self.counters.drop(DropReason::Stranger);
        }
        let heeded = match *bytes {
            [NAT_PMP, _, 0, 1, ..] => self.handle_version(NAT_PMP, now),
            [NAT_PMP, ..] => self.handle_natpmp(bytes, now),
            [PCP, code, _, UNSUPP_VERSION, ..] if code & RESPONSE != 0 => {
                self.handle_version(PCP, now)
            }
            [PCP, ..] => self.handle_pcp(bytes, now),
            [version, code, _, UNSUPP_VERSION, ..] if code & RESPONSE != 0 => {
                self.handle_version(version, now)
            }
            _ => Err(DropReason::Malformed),
        };
        match heeded {
            Ok(()) => self.heard = Some(now),
            Err(reason) => self.counters.drop(reason),
        }
        self.pump(now);
    }

    /// RFC 6887 §9: the server cannot read what we said, and names the version it can.
    fn handle_version(&mut self, version: u8, now: Instant) -> Result<(), DropReason> {
        match (self.dialect, version) {
            (Dialect::Absent | Dialect::Other, _) => return Err(DropReason::Unasked),
            (Dialect::NatPmp, NAT_PMP) => return Err(DropReason::Unasked),
            // it was asked for our address by NAT-PMP, and does not speak that
            (Dialect::Pcp, PCP) => self.probe = Probe::default(),
            (Dialect::NatPmp, PCP) => self.start_probing(now),
            (Dialect::Probing | Dialect::Pcp, NAT_PMP) if self.speaks.nat_pmp => {
                self.rest_all();
                self.speak(Dialect::NatPmp, now);
            }
            _ => {
                self.rest_all();
                self.dialect = Dialect::Other;
                self.probe.backoff = None;
                self.probe.due = Some(now + TOO_OLD);
            }
        }
        Ok(())
    }

    fn handle_pcp(&mut self, bytes: &[u8], now: Instant) -> Result<(), DropReason> {
        let response = Response::parse(bytes).map_err(|_| DropReason::Malformed)?;
        match (self.dialect, response.body) {
            (Dialect::Absent | Dialect::Other, _) => Err(DropReason::Unasked),
            (Dialect::NatPmp | Dialect::Probing, _) if !self.speaks.pcp => Err(DropReason::Unasked),
            // it speaks PCP now, whatever it said before
            (Dialect::NatPmp, _) => {
                self.start_probing(now);
                Ok(())
            }
            (Dialect::Probing, _) => {
                // what is asked for from here on is no remembered state of the server's
                self.pcp_epoch = Epoch::NEW;
                self.check_pcp_epoch(response.epoch, now);
                self.speak(Dialect::Pcp, now);
                Ok(())
            }
            (Dialect::Pcp, Body::Announce) => {
                self.check_pcp_epoch(response.epoch, now);
                Ok(())
            }
            (Dialect::Pcp, Body::Map(map)) => self.handle_map(&response, map, now),
            (Dialect::Pcp, Body::Peer(_)) => Err(DropReason::Unasked),
        }
    }

    fn check_pcp_epoch(&mut self, epoch: u32, now: Instant) {
        if !self.pcp_epoch.check_pcp(epoch, now) {
            self.lose(now);
        }
    }

    /// RFC 6887 §11.4; an unasked one is a Mapping Update (§14.2) and is treated alike.
    fn handle_map(
        &mut self,
        response: &Response<'_>,
        map: Map,
        now: Instant,
    ) -> Result<(), DropReason> {
        let addr = self.whose(response)?;
        let protocol = Protocol::from_number(map.protocol).ok_or(DropReason::Unasked)?;
        let port = ExternalPort::new(map.internal_port).ok_or(DropReason::Unasked)?;
        let key = PortKey {
            addr,
            protocol,
            port,
        };
        let known = self.table.get(key).ok_or(DropReason::Unasked)?;
        if known.nonce != map.nonce {
            return Err(DropReason::Unasked);
        }
        let closing = matches!(known.phase, Phase::Closing { .. });
        self.check_pcp_epoch(response.epoch, now);
        let life = Duration::from_secs(response.lifetime.into());
        match (response.result, closing) {
            (ResultCode::Success, true) => {
                // a late answer to what was asked before is no answer to the deletion
                if life.is_zero() {
                    self.forget(key);
                }
            }
            (ResultCode::Success, false) if life.is_zero() => return Err(DropReason::Unasked),
            (ResultCode::Success, false) => {
                let addr = narrow(map.external_addr);
                let granted = granted(addr, map.external_port, life, now);
                self.grant(key, granted, now);
                if let Some(IpAddr::V4(_)) = addr {
                    self.external = addr;
                }
            }
            (ResultCode::NoResources, true) => {
                // RFC 6887 §11.4: then nothing of any kind
                let until = now + hold(life);
                self.hold_all = Some(until);
                self.flying.remove(&key);
                self.table.set_due(key, Some(until));
            }
            (_, true) => self.forget(key),
            (code, false) if self.handle_unfiltered(key, code, hold(life), now) => {}
            (code, false) => self.refuse(key, Refused::Pcp(code), hold(life), now),
        }
        Ok(())
    }

    /// For which address a response is: ours, or the third party's.
    fn whose(&self, response: &Response<'_>) -> Result<IpAddr, DropReason> {
        let mut addr = self.link.map(|link| link.local);
        for option in response.options() {
            if let PcpOption::ThirdParty(third) = option.map_err(|_| DropReason::Malformed)? {
                addr = narrow(third);
            }
        }
        addr.ok_or(DropReason::Unasked)
    }

    fn handle_natpmp(&mut self, bytes: &[u8], now: Instant) -> Result<(), DropReason> {
        use natpmp_wire::Response;
        if !self.speaks.nat_pmp || self.dialect == Dialect::Absent {
            return Err(DropReason::Unasked);
        }
        let response = Response::parse(bytes).map_err(|_| DropReason::Malformed)?;
        match (self.dialect, response) {
            (_, Response::ExternalAddress { result, addr, .. }) => {
                if result == natpmp_wire::ResultCode::Success {
                    self.external = Some(addr.into()).filter(|_| !addr.is_unspecified());
                }
            }
            (Dialect::NatPmp, _) => {}
            _ => return Err(DropReason::Unasked),
        }
        match (self.dialect, response) {
            (Dialect::Pcp, _) => self.probe = Probe::default(),
            // with PCP unanswered so far, the announcement of a NAT-PMP gateway tells enough only
            // if PCP is not wanted
            (Dialect::Probing, _) if self.speaks.pcp => {}
            (Dialect::Probing, Response::ExternalAddress { epoch, .. }) => {
                self.natpmp_epoch = Epoch::NEW;
                self.check_natpmp_epoch(epoch, now);
                self.speak(Dialect::NatPmp, now);
                self.probe = Probe::default();
            }
            (Dialect::NatPmp, Response::ExternalAddress { epoch, .. }) => {
                self.probe = Probe::default();
                self.check_natpmp_epoch(epoch, now);
            }
            (Dialect::NatPmp, Response::Map { result, epoch, map }) => {
                return self.handle_natpmp_map(result, epoch, map, now);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_natpmp_epoch(&mut self, epoch: u32, now: Instant) {
        if !self.natpmp_epoch.check_natpmp(epoch, now) {
            self.lose(now);
        }
    }

    fn handle_natpmp_map(
        &mut self,
        result: natpmp_wire::ResultCode,
        epoch: u32,
        map: natpmp_wire::Map,
        now: Instant,
    ) -> Result<(), DropReason> {
        use natpmp_wire::ResultCode;
        let local = self.link.map(|link| link.local);
        let port = ExternalPort::new(map.internal_port);
        let (Some(addr), Some(port)) = (local, port) else {
            return Err(DropReason::Unasked);
        };
        let key = PortKey {
            addr,
            protocol: map.protocol,
            port,
        };
        let known = self.table.get(key).ok_or(DropReason::Unasked)?;
        let closing = matches!(known.phase, Phase::Closing { .. });
        self.check_natpmp_epoch(epoch, now);
        match (result, closing) {
            (ResultCode::Success, true) if map.lifetime > 0 => {}
            (_, true) => self.forget(key),
            (ResultCode::Success, false) if map.lifetime == 0 => return Err(DropReason::Unasked),
            (ResultCode::Success, false) => {
                let life = Duration::from_secs(map.lifetime.into());
                let granted = granted(self.external, map.external_port, life, now);
                self.grant(key, granted, now);
            }
            (code, false) => {
                // NAT-PMP's errors have no lifetime; these are those of RFC 6887 §7.4
                let life = match code {
                    ResultCode::NetworkFailure | ResultCode::OutOfResources => SHORT,
                    _ => TOO_OLD,
                };
                self.refuse(key, Refused::NatPmp(code), life, now);
            }
        }
        Ok(())
    }

    fn grant(&mut self, key: PortKey, granted: Granted, now: Instant) {
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        port.granted = Some(granted);
        port.told = port.telling;
        port.phase = Phase::Open { renewals: 0 };
        let due = renewal(granted.at, granted.lifetime, 0, now, &mut self.rng);
        self.counters.granted = self.counters.granted.saturating_add(1);
        self.flying.remove(&key);
        self.table
            .set_due(key, Some(due.unwrap_or_else(|| granted.expires())));
    }

    /// RFC 6887 §8.3: the same request is not repeated within the lifetime of the error.
    fn refuse(&mut self, key: PortKey, why: Refused, life: Duration, now: Instant) {
        let third_party = self.is_third_party(key);
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        let until = now + life;
        port.phase = Phase::Refused { why, until };
        match why {
            Refused::Pcp(ResultCode::NoResources) => self.hold_new = Some(until),
            Refused::Pcp(ResultCode::UnsuppOption) if third_party => {
                self.hold_third_party = Some(until);
            }
            _ => {}
        }
        self.counters.refused = self.counters.refused.saturating_add(1);
        self.flying.remove(&key);
        self.table.set_due(key, Some(until));
    }
}

fn granted(addr: Option<IpAddr>, port: u16, life: Duration, now: Instant) -> Granted {
    Granted {
        addr,
        port,
        at: now,
        lifetime: life.min(LIFETIME_MAX),
    }
}

/// RFC 6887 §8.3: how long an error is believed, within reason.
fn hold(life: Duration) -> Duration {
    life.clamp(SHORT, LIFETIME_MAX)
}

/// RFC 6887 §19.1.
pub(crate) const SERVER_PORT: u16 = 5351;

/// The first octet of both protocols, and the bit of a response in the second one.
const NAT_PMP: u8 = 0;
const PCP: u8 = 2;
const RESPONSE: u8 = 0x80;

/// RFC 6887 §7.4.
const UNSUPP_VERSION: u8 = 1;

/// RFC 6887 §9 and §7.4: half an hour, the life of errors that last.
const TOO_OLD: Duration = Duration::from_mins(30);

/// RFC 6887 §7.4: the life of errors that pass.
const SHORT: Duration = Duration::from_secs(30);
