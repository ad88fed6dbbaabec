//! A recursive resolver: follows delegations from a hint, and remembers for as long as it may.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use crate::dns;

/// A resolver and its memory. Aliases are not followed: nobody in the lab has one.
#[derive(Debug)]
pub struct Resolver {
    hint: (Name, Vec<SocketAddr>),
    cache: Mutex<Cache>,
}

impl Resolver {
    /// A resolver that knows the servers of one zone; names elsewhere do not exist for it.
    #[must_use]
    pub fn new(zone: Name, servers: Vec<SocketAddr>) -> Self {
        Self {
            hint: (zone, servers),
            cache: Mutex::default(),
        }
    }

    /// Answers a stub's query.
    pub async fn answer(&self, query: &Message) -> Message {
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.queries.clone_from(&query.queries);
        let found = match query.queries.first() {
            Some(question) => self.resolve(question.name(), question.query_type()).await,
            None => Err(anyhow::anyhow!("no question")),
        };
        match found {
            Ok(found) => {
                answer.metadata.response_code = found.code;
                answer.answers = found.answers;
                answer.authorities = found.soa.into_iter().collect();
            }
            Err(error) => {
                tracing::debug!("the provider's resolver gives up: {error:#}");
                answer.metadata.response_code = ResponseCode::ServFail;
            }
        }
        answer
    }

    /// Forgets everything.
    pub fn flush(&self) {
        *self.cache() = Cache::default();
    }

    async fn resolve(&self, name: &Name, kind: RecordType) -> anyhow::Result<Found> {
        let name = name.to_lowercase();
        if let Some(found) = self.cache().answer(&name, kind, Instant::now()) {
            return Ok(found);
        }
        if !self.hint.0.zone_of(&name) {
            return Ok(Found {
                code: ResponseCode::NXDomain,
                answers: Vec::new(),
                soa: None,
            });
        }
        let (mut zone, mut servers) = self.closest(&name);
        for _ in 0..MOST_REFERRALS {
            let answer = ask_any(&servers, &name, kind).await?;
            let now = Instant::now();
            let code = answer.metadata.response_code;
            let referral = answer.authorities.iter().find(|record| {
                record.record_type() == RecordType::NS
                    && zone.zone_of(&record.name)
                    && record.name.to_lowercase() != zone
                    && record.name.zone_of(&name)
            });
            let is_referral = answer.answers.is_empty() && !answer.metadata.authoritative;
            match (code, referral) {
                (ResponseCode::NoError, Some(referral)) if is_referral => {
                    zone = referral.name.to_lowercase();
                    let records = answer.authorities.iter().chain(&answer.additionals);
                    self.cache().remember(records.cloned().collect(), now);
                    servers = self.cache().servers(&zone, now);
                    if servers.is_empty() {
                        bail!("{zone} is delegated without glue");
                    }
                }
                (ResponseCode::NoError | ResponseCode::NXDomain, _) if !is_referral => {
                    return Ok(self.cache().conclude(&name, kind, &answer, now));
                }
                _ => bail!("the servers of {zone} answer {code} without authority"),
            }
        }
        bail!("too many referrals for {name}")
    }

    /// The known zone nearest to a name, and its servers.
    fn closest(&self, name: &Name) -> (Name, Vec<SocketAddr>) {
        let cache = self.cache();
        let mut zone = name.clone();
        while zone != self.hint.0 {
            let servers = cache.servers(&zone, Instant::now());
            if !servers.is_empty() {
                return (zone, servers);
            }
            zone = zone.base_name();
        }
        self.hint.clone()
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().expect("nobody panics with the cache")
    }
}

/// What a stub is told.
#[derive(Debug, Clone)]
struct Found {
    code: ResponseCode,
    answers: Vec<Record>,
    soa: Option<Record>,
}

#[derive(Debug, Default)]
struct Cache {
    known: BTreeMap<(Name, RecordType), (Found, Instant)>,
}

impl Cache {
    fn answer(&self, name: &Name, kind: RecordType, now: Instant) -> Option<Found> {
        let (found, until) = self.known.get(&(name.clone(), kind))?;
        let left = until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())?;
        let mut found = found.clone();
        let left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        found
            .answers
            .iter_mut()
            .for_each(|record| record.ttl = record.ttl.min(left));
        Some(found)
    }

    /// The addresses of the servers of a zone.
    fn servers(&self, zone: &Name, now: Instant) -> Vec<SocketAddr> {
        let names = self
            .answer(zone, RecordType::NS, now)
            .map(|found| found.answers);
        let addresses = |record: &Record| {
            let RData::NS(NS(name)) = &record.data else {
                return Vec::new();
            };
            let found = self.answer(&name.to_lowercase(), RecordType::AAAA, now);
            let records = found.map(|found| found.answers).unwrap_or_default();
            let address = |record: &Record| match &record.data {
                RData::AAAA(addr) => Some(SocketAddr::new(IpAddr::V6(addr.0), 53)),
                _ => None,
            };
            records.iter().filter_map(address).collect()
        };
        names
            .unwrap_or_default()
            .iter()
            .flat_map(addresses)
            .collect()
    }

    fn remember(&mut self, records: Vec<Record>, now: Instant) {
        let mut rrsets = BTreeMap::<_, Vec<Record>>::new();
        for record in records {
            let key = (record.name.to_lowercase(), record.record_type());
            rrsets.entry(key).or_default().push(record);
        }
        for (key, answers) in rrsets {
            let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or(0);
            let found = Found {
                code: ResponseCode::NoError,
                answers,
                soa: None,
            };
            self.known
                .insert(key, (found, now + Duration::from_secs(ttl.into())));
        }
    }

    /// Keeps an authoritative answer, a negative one for what its SOA allows (RFC 2308 §5).
    fn conclude(&mut self, name: &Name, kind: RecordType, answer: &Message, now: Instant) -> Found {
        let is_soa = |record: &&Record| record.record_type() == RecordType::SOA;
        let found = Found {
            code: answer.metadata.response_code,
            answers: answer.answers.clone(),
            soa: answer.authorities.iter().find(is_soa).cloned(),
        };
        let ttl = match (
            &found.soa,
            found.answers.iter().map(|record| record.ttl).min(),
        ) {
            (_, Some(ttl)) => ttl,
            (
                Some(Record {
                    ttl,
                    data: RData::SOA(soa),
                    ..
                }),
                None,
            ) => soa.minimum.min(*ttl),
            _ => 0,
        };
        let until = now + Duration::from_secs(ttl.into());
        self.known
            .insert((name.clone(), kind), (found.clone(), until));
        found
    }
}

async fn ask_any(servers: &[SocketAddr], name: &Name, kind: RecordType) -> anyhow::Result<Message> {
    let mut last = anyhow::anyhow!("no server to ask");
    for patience in PATIENCE {
        for server in servers {
            let query = dns::query(name, kind, false);
            match dns::exchange(*server, &query, patience).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
    }
    Err(last).with_context(|| format!("no server of {name} answers"))
}

const MOST_REFERRALS: usize = 8;

/// How long one server may take, the first time and each next time that all were asked.
const PATIENCE: [Duration; 5] = [
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(20),
];

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::AAAA;

    use super::*;

    #[test]
    fn what_is_remembered_is_used_for_its_ttl_and_no_longer() {
        let name = Name::from_ascii("camera.home.example.").unwrap();
        let addr = RData::AAAA(AAAA("2001:db8::1".parse().unwrap()));
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.remember(vec![Record::from_rdata(name.clone(), 2, addr)], now);
        let left = |after| {
            let found = cache.answer(&name, RecordType::AAAA, now + Duration::from_millis(after));
            found.map(|found| found.answers[0].ttl)
        };

        assert_eq!(left(0), Some(2));
        assert_eq!(left(900), Some(1));
        assert_eq!(left(2000), None);
        assert_eq!(cache.answer(&name, RecordType::A, now).map(drop), None);
    }
}
