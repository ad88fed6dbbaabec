//! The parent zone: what it answers, and what an update changes (RFC 1034, RFC 2136).

use std::collections::BTreeMap;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// A zone in memory.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    records: BTreeMap<(Name, RecordType), Vec<Record>>,
}

impl Zone {
    /// A zone with its SOA, its name server `ns.ORIGIN` at `server`, and nothing else.
    #[must_use]
    pub fn new(origin: &Name, server: std::net::Ipv6Addr) -> Self {
        let ns = Name::from_ascii("ns")
            .and_then(|ns| ns.append_domain(origin))
            .expect("short");
        let soa = SOA::new(ns.clone(), ns.clone(), 1, 3600, 600, 86400, 1);
        let mut zone = Self {
            origin: origin.to_lowercase(),
            records: BTreeMap::new(),
        };
        zone.add(Record::from_rdata(origin.clone(), 60, RData::SOA(soa)));
        zone.add(Record::from_rdata(
            origin.clone(),
            60,
            RData::NS(NS(ns.clone())),
        ));
        zone.add(Record::from_rdata(ns, 60, RData::AAAA(AAAA(server))));
        zone
    }

    /// Adds a record.
    pub fn add(&mut self, record: Record) {
        let rrset = self.rrset_mut(&record.name, record.record_type());
        rrset.retain(|old| old.data != record.data);
        rrset.push(record);
    }

    /// Removes all records of a name.
    pub fn clear(&mut self, name: &Name) {
        let name = name.to_lowercase();
        self.records.retain(|(other, _), _| *other != name);
    }

    /// The records of a name and type.
    #[must_use]
    pub fn rrset(&self, name: &Name, kind: RecordType) -> &[Record] {
        self.records
            .get(&(name.to_lowercase(), kind))
            .map_or(&[], Vec::as_slice)
    }

    /// The serial of the SOA.
    #[must_use]
    pub fn serial(&self) -> u32 {
        match self.rrset(&self.origin, RecordType::SOA) {
            [
                Record {
                    data: RData::SOA(soa),
                    ..
                },
            ] => soa.serial,
            _ => 0,
        }
    }

    /// Answers a query: with records, with a referral, or with the SOA of a negative answer.
    #[must_use]
    pub fn answer(&self, query: &Message) -> Message {
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.queries.clone_from(&query.queries);
        let Some(question) = query.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        let name = question.name().to_lowercase();
        if !self.origin.zone_of(&name) {
            answer.metadata.response_code = ResponseCode::Refused;
            return answer;
        }
        if let Some(servers) = self.delegation_of(&name) {
            answer.authorities = servers.to_vec();
            answer.additionals = self.glue(servers);
            return answer;
        }
        answer.metadata.authoritative = true;
        answer.answers = self.rrset(&name, question.query_type()).to_vec();
        if answer.answers.is_empty() {
            answer.authorities = self.rrset(&self.origin, RecordType::SOA).to_vec();
            if !self.records.keys().any(|(other, _)| name.zone_of(other)) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        answer
    }

    /// Does what a signed update asks, all of it or nothing.
    pub fn update(&mut self, update: &Message) -> ResponseCode {
        let [zone] = update.queries.as_slice() else {
            return ResponseCode::FormErr;
        };
        if zone.query_type() != RecordType::SOA || zone.name().to_lowercase() != self.origin {
            return ResponseCode::NotAuth;
        }
        let inside = |record: &Record| self.origin.zone_of(&record.name.to_lowercase());
        if !update.answers.iter().chain(&update.authorities).all(inside) {
            return ResponseCode::NotZone;
        }
        if let Err(code) = self.prerequisites(&update.answers) {
            return code;
        }
        let before = self.records.clone();
        for record in &update.authorities {
            if let Err(code) = self.apply(record) {
                self.records = before;
                return code;
            }
        }
        self.records.retain(|_, rrset| !rrset.is_empty());
        if self.records != before {
            self.step_serial();
        }
        ResponseCode::NoError
    }

    /// RFC 2136 §3.2.
    fn prerequisites(&self, prerequisites: &[Record]) -> Result<(), ResponseCode> {
        let mut wanted = BTreeMap::<(Name, RecordType), Vec<&RData>>::new();
        for record in prerequisites {
            let (name, kind) = (record.name.to_lowercase(), record.record_type());
            let exists = match kind {
                RecordType::ANY => self.records.keys().any(|(other, _)| *other == name),
                _ => !self.rrset(&name, kind).is_empty(),
            };
            match (record.dns_class, kind, exists) {
                (DNSClass::ANY, RecordType::ANY, false) => return Err(ResponseCode::NXDomain),
                (DNSClass::ANY, _, false) => return Err(ResponseCode::NXRRSet),
                (DNSClass::NONE, RecordType::ANY, true) => return Err(ResponseCode::YXDomain),
                (DNSClass::NONE, _, true) => return Err(ResponseCode::YXRRSet),
                (DNSClass::ANY | DNSClass::NONE, ..) => {}
                (DNSClass::IN, ..) => wanted.entry((name, kind)).or_default().push(&record.data),
                _ => return Err(ResponseCode::FormErr),
            }
        }
        let same = |((name, kind), values): (&(Name, RecordType), &Vec<&RData>)| {
            let rrset = self.rrset(name, *kind);
            rrset.len() == values.len() && rrset.iter().all(|old| values.contains(&&old.data))
        };
        if wanted.iter().all(same) {
            Ok(())
        } else {
            Err(ResponseCode::NXRRSet)
        }
    }

    /// RFC 2136 §3.4.2.
    fn apply(&mut self, record: &Record) -> Result<(), ResponseCode> {
        let (name, kind) = (record.name.to_lowercase(), record.record_type());
        let apex = name == self.origin
            && matches!(kind, RecordType::SOA | RecordType::NS | RecordType::ANY);
        match record.dns_class {
            DNSClass::IN if kind == RecordType::SOA => {}
            DNSClass::IN => {
                self.rrset_mut(&name, kind)
                    .iter_mut()
                    .for_each(|old| old.ttl = record.ttl);
                self.add(record.clone());
            }
            DNSClass::ANY | DNSClass::NONE if apex => {}
            DNSClass::ANY if kind == RecordType::ANY => self.clear(&name),
            DNSClass::ANY => {
                self.records.remove(&(name, kind));
            }
            DNSClass::NONE => {
                self.rrset_mut(&name, kind)
                    .retain(|old| old.data != record.data);
            }
            _ => return Err(ResponseCode::FormErr),
        }
        Ok(())
    }

    fn delegation_of(&self, name: &Name) -> Option<&[Record]> {
        let mut cut = name.clone();
        let mut found = None;
        while cut != self.origin && !cut.is_root() {
            let servers = self.rrset(&cut, RecordType::NS);
            if !servers.is_empty() {
                found = Some(servers);
            }
            cut = cut.base_name();
        }
        found
    }

    fn glue(&self, servers: &[Record]) -> Vec<Record> {
        let addresses = |server: &Record| match &server.data {
            RData::NS(NS(name)) => [RecordType::AAAA, RecordType::A]
                .into_iter()
                .flat_map(|kind| self.rrset(name, kind).to_vec())
                .collect(),
            _ => Vec::new(),
        };
        servers.iter().flat_map(addresses).collect()
    }

    fn step_serial(&mut self) {
        let origin = self.origin.clone();
        for record in self.rrset_mut(&origin, RecordType::SOA) {
            if let RData::SOA(soa) = &mut record.data {
                soa.serial = soa.serial.wrapping_add(1);
            }
        }
    }

    fn rrset_mut(&mut self, name: &Name, kind: RecordType) -> &mut Vec<Record> {
        self.records.entry((name.to_lowercase(), kind)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, Query};

    use super::*;

    #[test]
    fn delegated_names_are_referred_with_glue() {
        let mut zone = zone();
        assert_eq!(
            zone.update(&delegation("2001:db8::1")),
            ResponseCode::NoError
        );

        let answer = zone.answer(&query("camera.home.example."));

        assert!(!answer.metadata.authoritative);
        assert_eq!(answer.answers, []);
        assert_eq!(answer.authorities.len(), 1);
        let glue = RData::AAAA(AAAA("2001:db8::1".parse().unwrap()));
        assert_eq!(answer.additionals[0].data, glue);
        assert_eq!(zone.serial(), 2);
    }

    #[test]
    fn an_update_replaces_glue_and_one_that_changes_nothing_keeps_the_serial() {
        let mut zone = zone();
        zone.update(&delegation("2001:db8::1"));
        zone.update(&delegation("2001:db8::2"));
        let serial = zone.serial();
        zone.update(&delegation("2001:db8::2"));

        let glue = zone.rrset(&name("ns1.home.example."), RecordType::AAAA);
        assert_eq!(glue.len(), 1);
        assert_eq!(
            glue[0].data,
            RData::AAAA(AAAA("2001:db8::2".parse().unwrap()))
        );
        assert_eq!(zone.serial(), serial);
    }

    #[test]
    fn a_failed_prerequisite_changes_nothing() {
        let mut zone = zone();
        let mut update = delegation("2001:db8::1");
        let mut exists = Record::update0(name("home.example."), 0, RecordType::NS);
        exists.dns_class = DNSClass::ANY;
        update.answers.push(exists);

        assert_eq!(zone.update(&update), ResponseCode::NXRRSet);
        assert_eq!(zone.rrset(&name("home.example."), RecordType::NS), []);
        assert_eq!(zone.serial(), 1);
    }

    #[test]
    fn names_of_other_zones_are_not_taken() {
        let mut zone = zone();
        let mut update = delegation("2001:db8::1");
        update.authorities[0].name = name("home.example.org.");

        assert_eq!(zone.update(&update), ResponseCode::NotZone);
        assert_eq!(
            zone.answer(&query("example.org.")).metadata.response_code,
            ResponseCode::Refused
        );
        let nothing = zone.answer(&query("nothing.example."));
        assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(nothing.authorities.len(), 1);
    }

    fn zone() -> Zone {
        Zone::new(&name("example."), "2001:db8:53::1".parse().unwrap())
    }

    /// Replaces NS and glue, through the wire and back.
    fn delegation(glue: &str) -> Message {
        let mut update = Message::new(7, MessageType::Query, OpCode::Update);
        update
            .queries
            .push(Query::query(name("example."), RecordType::SOA));
        let server = name("ns1.home.example.");
        for (owner, data) in [
            ("home.example.", RData::NS(NS(server))),
            (
                "ns1.home.example.",
                RData::AAAA(AAAA(glue.parse().unwrap())),
            ),
        ] {
            let mut clear = Record::update0(name(owner), 0, data.record_type());
            clear.dns_class = DNSClass::ANY;
            update.authorities.push(clear);
            update
                .authorities
                .push(Record::from_rdata(name(owner), 1, data));
        }
        Message::from_vec(&update.to_vec().unwrap()).unwrap()
    }

    fn query(text: &str) -> Message {
        let mut query = Message::query();
        query
            .queries
            .push(Query::query(name(text), RecordType::AAAA));
        query
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }
}
