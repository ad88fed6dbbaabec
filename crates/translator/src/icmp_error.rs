//! ICMP errors from one family to the other (RFC 7915 §4.2, §4.3, §5.2, §5.3). An error changes no
//! session, and only errors about packets of sessions pass (RFC 5508 REQ-4 to REQ-6).

mod interface;
mod layout;
mod mtu;
mod packet;
mod table;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::alone::{Alone, Pair, Source, stateless_four, stateless_six};
use crate::checksum::Sum;
use crate::config::{Config, Links};
use crate::embedded::{Embedded, Quoted};
use crate::filter::Filter;
use crate::identification::Identifications;
use crate::martian::is_host_v6;
use crate::session::{FourTuple, SixTuple};
use crate::verdict::DropReason;
use crate::wire::icmp;
use layout::Body;
pub(crate) use packet::Packet;

/// The packet that brings an error, as far as it is known before the error is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outer<A> {
    pub(crate) src: A,
    pub(crate) dst: A,
    /// Type of service or traffic class.
    pub(crate) tos: u8,
    /// Time to live or hop limit.
    pub(crate) ttl: u8,
    /// Where the message stands in the packet.
    pub(crate) l4_offset: usize,
    pub(crate) l4_len: usize,
    /// Its checksum is still to be computed.
    pub(crate) partial: bool,
}

/// An error that is right in itself.
#[derive(Debug, Clone, Copy)]
struct Error<'a, A> {
    tos: u8,
    ttl: u8,
    kind: u8,
    code: u8,
    word: [u8; 4],
    embedded: Embedded<'a, A>,
    quoted: Quoted,
    /// RFC 4884 §7, to us opaque.
    extensions: &'a [u8],
}

/// What an error and the quoted packet are to be called in the other family.
#[derive(Debug, Clone, Copy)]
struct Names<A> {
    /// Who says that there is an error.
    source: A,
    /// Who sent the quoted packet: the error goes there.
    sender: (A, u16),
    /// Where the quoted packet was to go.
    receiver: (A, u16),
    /// The identifier of a quoted echo.
    id: u16,
    /// Who says so, where `source` only stands for him.
    origin: Option<Ipv6Addr>,
}

/// What errors are translated by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errors<'a> {
    filter: &'a Filter,
    alone: Option<&'a Alone>,
    links: Links,
    zero_traffic_class: bool,
    tos: Option<u8>,
}

impl<'a> Errors<'a> {
    pub(crate) const fn new(filter: &'a Filter, config: &'a Config) -> Self {
        Self {
            filter,
            alone: config.alone.as_ref(),
            links: config.links,
            zero_traffic_class: config.zero_traffic_class,
            tos: config.tos,
        }
    }

    /// Translates an error from IPv4.
    pub(crate) fn four_to_six(
        self,
        packet: &[u8],
        outer: &Outer<Ipv4Addr>,
        source: Source,
    ) -> Result<Packet, DropReason> {
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        if self.alone.is_none() && !bib.contains(outer.dst) {
            return Err(DropReason::NotOurs);
        }
        // RFC 7915 §4.1: other illegal sources are translated, for who looks for trouble
        if source == Source::Mapped && bib.contains(outer.src) {
            return Err(DropReason::IllegalSource);
        }
        let message = outer.message(packet, Sum::default())?;
        let mut error = Error::four(outer, message)?;
        if self.zero_traffic_class {
            (error.tos, error.embedded.tos) = (0, 0);
        }
        let translated = table::four_to_six(error.kind, error.code, error.word)
            .ok_or(DropReason::IcmpUnsupported)?;
        // as it would be sent back, see RFC 6146 §3.4
        let swapped = (error.embedded.dst, error.embedded.src);
        let pair = match self.alone {
            Some(alone) => stateless_four(alone, nsps, bib, swapped, source)?,
            None => None,
        };
        let names = match pair {
            Some(pair) => self.mapped_four(outer, &error, pair, source),
            None => self.session_four(outer, &error)?,
        };
        Ok(packet::four_to_six(&error, translated, &names, self.links))
    }

    /// Translates an error from IPv6; `ids` numbers it in IPv4.
    pub(crate) fn six_to_four(
        self,
        packet: &[u8],
        outer: &Outer<Ipv6Addr>,
        ids: &mut Identifications,
    ) -> Result<Packet, DropReason> {
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        if self.alone.is_none() && !nsps.contains(outer.dst) {
            return Err(DropReason::NotOurs);
        }
        if !is_host_v6(outer.src) {
            return Err(DropReason::IllegalSource);
        }
        let pseudo = Sum::pseudo_v6(outer.src, outer.dst, outer.l4_len, icmp::PROTOCOL_V6);
        let message = outer.message(packet, pseudo)?;
        let mut error = Error::six(outer, message)?;
        if let Some(tos) = self.tos {
            (error.tos, error.embedded.tos) = (tos, tos);
        }
        let translated = table::six_to_four(error.kind, error.code, error.word)
            .ok_or(DropReason::IcmpUnsupported)?;
        let swapped = (error.embedded.dst, error.embedded.src);
        let pair = match self.alone {
            Some(alone) => stateless_six(alone, nsps, bib, swapped)?,
            None => None,
        };
        let names = match pair {
            Some(pair) => self.mapped_six(outer, &error, pair),
            None => self.session_six(outer, &error)?,
        };
        let id = ids.next(names.source, names.sender.0, 1);
        Ok(packet::six_to_four(
            &error, translated, &names, self.links, id,
        ))
    }
}

impl<A> Outer<A> {
    /// Returns the message, its checksum verified (RFC 5508 REQ-3).
    fn message<'a>(&self, packet: &'a [u8], pseudo: Sum) -> Result<&'a [u8], DropReason> {
        let message = packet
            .get(self.l4_offset..self.l4_offset + self.l4_len)
            .ok_or(DropReason::MalformedIcmp)?;
        if !self.partial && (pseudo + Sum::of(message)).fold() != 0xffff {
            return Err(DropReason::IcmpChecksum);
        }
        Ok(message)
    }
}

impl<'a> Error<'a, Ipv4Addr> {
    fn four(outer: &Outer<Ipv4Addr>, message: &'a [u8]) -> Result<Self, DropReason> {
        let (&[kind, code, _, _, w0, w1, w2, w3], body) = message
            .split_first_chunk()
            .ok_or(DropReason::MalformedIcmp)?;
        let length = if table::has_length_v4(kind) { w1 } else { 0 };
        let Body { quote, extensions } = Body::parse(body, usize::from(length) * 4);
        let embedded = Embedded::<Ipv4Addr>::parse(quote).map_err(|_| DropReason::MalformedIcmp)?;
        Ok(Self {
            tos: outer.tos,
            ttl: outer.ttl,
            kind,
            code,
            word: [w0, w1, w2, w3],
            quoted: embedded.quoted()?,
            embedded,
            extensions,
        })
    }
}

impl<'a> Error<'a, Ipv6Addr> {
    fn six(outer: &Outer<Ipv6Addr>, message: &'a [u8]) -> Result<Self, DropReason> {
        let (&[kind, code, _, _, w0, w1, w2, w3], body) = message
            .split_first_chunk()
            .ok_or(DropReason::MalformedIcmp)?;
        let length = if table::has_length_v6(kind) { w0 } else { 0 };
        let Body { quote, extensions } = Body::parse(body, usize::from(length) * 8);
        let embedded = Embedded::<Ipv6Addr>::parse(quote).map_err(|_| DropReason::MalformedIcmp)?;
        Ok(Self {
            tos: outer.tos,
            ttl: outer.ttl,
            kind,
            code,
            word: [w0, w1, w2, w3],
            quoted: embedded.quoted()?,
            embedded,
            extensions,
        })
    }
}

impl Errors<'_> {
    /// Finds the session of a packet from IPv6 that somebody in IPv4 says something about.
    fn session_four(
        self,
        outer: &Outer<Ipv4Addr>,
        error: &Error<'_, Ipv4Addr>,
    ) -> Result<Names<Ipv6Addr>, DropReason> {
        let (pool_port, internal_port) = error.quoted.ports(true);
        let tuple = FourTuple {
            transport: error.quoted.transport().ok_or(DropReason::IcmpError)?,
            pool: error.embedded.src,
            pool_port,
            server: error.embedded.dst,
            internal_port,
        };
        let found = self.filter.sessions.find_four(&tuple);
        let session = found
            .filter(|_| error.embedded.src == outer.dst)
            .and_then(|id| self.filter.sessions.get(id))
            .filter(|session| self.filter.passes(session))
            .ok_or(DropReason::IcmpError)?;
        let six = session.six;
        let nsp = self.filter.nsps.get(six.nsp).ok_or(DropReason::IcmpError)?;
        // RFC 6052 §3.1: the well-known prefix does not stand for private addresses, which routers
        // may have nevertheless.
        let source = [outer.src, self.filter.sessions.bib.router()]
            .into_iter()
            .find(|source| nsp.may_represent(*source))
            .unwrap_or(six.server);
        Ok(Names {
            source: nsp.embed(source),
            sender: (six.remote, six.remote_port),
            receiver: (nsp.embed(six.server), six.external_port),
            id: six.remote_port,
            origin: None,
        })
    }

    /// Finds the session of a packet from IPv4 that somebody in IPv6 says something about.
    fn session_six(
        self,
        outer: &Outer<Ipv6Addr>,
        error: &Error<'_, Ipv6Addr>,
    ) -> Result<Names<Ipv4Addr>, DropReason> {
        let nsps = &self.filter.nsps;
        if nsps.contains(outer.src) {
            return Err(DropReason::SourceInPref64);
        }
        let (external_port, remote_port) = error.quoted.ports(false);
        let (nsp, server) = nsps
            .extract(error.embedded.src)
            .filter(|_| error.embedded.src == outer.dst)
            .ok_or(DropReason::IcmpError)?;
        let tuple = SixTuple {
            transport: error.quoted.transport().ok_or(DropReason::IcmpError)?,
            remote: error.embedded.dst,
            remote_port,
            nsp,
            server,
            external_port,
        };
        let session = self
            .filter
            .sessions
            .find_six(&tuple)
            .and_then(|id| self.filter.sessions.get(id))
            .filter(|session| self.filter.passes(session))
            .ok_or(DropReason::IcmpError)?;
        let four = session.four;
        // RFC 6791 §4: a router has no address in IPv4; it gets one of ours.
        // DEVIATION RFC 6791 §5: always the same one, because each other one of the pool stands for
        // a remote, whom a server would take it for; the extension tells routers apart.
        let (source, origin) = if outer.src == session.six.remote {
            (four.pool, None)
        } else {
            (self.filter.sessions.bib.router(), Some(outer.src))
        };
        Ok(Names {
            source,
            origin,
            sender: (four.server, four.internal_port),
            receiver: (four.pool, four.pool_port),
            id: four.pool_port,
        })
    }

    /// Names what is translated without a session; `pair` names a packet that would be sent back.
    fn mapped_four(
        self,
        outer: &Outer<Ipv4Addr>,
        error: &Error<'_, Ipv4Addr>,
        pair: Pair<Ipv6Addr>,
        source: Source,
    ) -> Names<Ipv6Addr> {
        // RFC 7757 §4.2.1, rule 3: who got the hairpinned packet speaks from where it was sent
        let is_receiver = source == Source::Hairpinned && outer.src == error.embedded.dst;
        let alone = self.alone.filter(|_| !is_receiver);
        let mapped = alone.and_then(|alone| alone.maps.six(outer.src));
        let first = self.filter.nsps.iter().next();
        let embedded = first
            .filter(|(_, nsp)| nsp.may_represent(outer.src))
            .map(|(_, nsp)| nsp.embed(outer.src));
        let (src_port, dst_port) = error.quoted.ports(true);
        Names {
            source: mapped.or(embedded).unwrap_or(pair.src),
            sender: (pair.dst, src_port),
            receiver: (pair.src, dst_port),
            id: src_port,
            origin: None,
        }
    }

    /// As [`Self::mapped_four`], the other way.
    fn mapped_six(
        self,
        outer: &Outer<Ipv6Addr>,
        error: &Error<'_, Ipv6Addr>,
        pair: Pair<Ipv4Addr>,
    ) -> Names<Ipv4Addr> {
        let bib = &self.filter.sessions.bib;
        let mapped = self.alone.and_then(|alone| alone.maps.four(outer.src));
        let embedded = || self.filter.nsps.extract(outer.src).map(|(_, v4)| v4);
        let own = mapped.or_else(embedded);
        let router = || (!bib.pool_is_empty()).then(|| bib.router());
        let (src_port, dst_port) = error.quoted.ports(false);
        Names {
            source: own.or_else(router).unwrap_or(pair.src),
            origin: own.is_none().then_some(outer.src),
            sender: (pair.dst, src_port),
            receiver: (pair.src, dst_port),
            id: dst_port,
        }
    }
}
