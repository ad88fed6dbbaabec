//! The model: lists, and one rule after the other.

use std::collections::{BTreeMap, BTreeSet};

use mapping::{Access, PortClass, Via};

mod decisions;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    pub host: u8,
    pub internal: u16,
    pub wanted: Wanted,
    pub via: Via,
    pub nonce: Option<u8>,
    /// `None` is as long as possible.
    pub seconds: Option<u64>,
    pub filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    Any(u16),
    Exact(u16),
    Required(u16),
    Suggested(Option<u16>),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters {
    pub clear: bool,
    pub add: Vec<u8>,
}

/// What the model knows of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    pub id: u64,
    pub host: u8,
    pub internal: u16,
    pub external: u16,
    pub via: Via,
    pub nonce: Option<u8>,
    pub filters: Vec<u8>,
    pub ends: u64,
}

/// What the model knows of a pinhole; each host has one IPv6 address.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinhole {
    pub id: u16,
    pub host: u8,
    pub port: u16,
    pub nonce: Option<u8>,
    pub filters: Vec<u8>,
    pub ends: u64,
}

/// What waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub id: u64,
    /// Whether a pinhole is asked for.
    pub pinhole: bool,
    /// With the addresses that were carried then, and the filters that follow from none.
    pub wish: Wish,
    pub asked: u64,
    pub ends: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Permission {
    pub allow: bool,
    pub until: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostPolicy {
    pub access: Access,
    pub ports: Option<PortClass>,
    pub quota: Option<u32>,
    pub until: Option<u64>,
}

/// Why there is no mapping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum No {
    Refused,
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Grade {
    Asks,
    Denied,
    Opens,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    /// When the lease of a host that is here ends.
    pub leases: BTreeMap<u8, u64>,
    pub known: BTreeSet<u8>,
    pub policies: BTreeMap<u8, HostPolicy>,
    pub permissions: BTreeMap<(u8, u16), Permission>,
    pub waiting: Vec<Waiting>,
    pub open: Vec<Open>,
    pub pinholes: Vec<Pinhole>,
    /// Ports of the shared address that nobody else gets: for whom, and until when.
    pub kept: BTreeMap<u16, (u8, u64)>,
    pub carried: bool,
    pub pierced: bool,
    pub delegated: bool,
    pub given: u64,
    pub now: u64,
}

impl Model {
    /// Lets what is due end, one moment after the other.
    pub fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds;
        self.now = end;
        while let Some(at) = self.next_end().filter(|at| *at <= end) {
            let due = |until: Option<u64>| until == Some(at);
            let hosts: Vec<u8> = self.policies.keys().copied().collect();
            for host in hosts {
                if due(self.policies[&host].until) {
                    self.policies.remove(&host);
                    self.close_not_permitted(host);
                }
            }
            self.kept.retain(|_, (_, until)| *until != at);
            let gone: Vec<_> = self
                .leases
                .iter()
                .filter(|(_, ends)| **ends == at)
                .collect();
            for host in gone.into_iter().map(|(host, _)| *host).collect::<Vec<_>>() {
                self.leave(host);
            }
            self.close(|open| open.ends == at);
            let ports: Vec<_> = self.permissions.keys().copied().collect();
            for port in ports {
                if due(self.permissions[&port].until) {
                    self.permissions.remove(&port);
                    self.close_not_permitted(port.0);
                }
            }
            self.pinholes.retain(|pinhole| pinhole.ends != at);
            self.waiting.retain(|waiting| waiting.ends != at);
        }
    }

    fn next_end(&self) -> Option<u64> {
        let policies = self.policies.values().filter_map(|policy| policy.until);
        let permissions = self.permissions.values().filter_map(|it| it.until);
        policies
            .chain(permissions)
            .chain(self.leases.values().copied())
            .chain(self.open.iter().map(|open| open.ends))
            .chain(self.pinholes.iter().map(|pinhole| pinhole.ends))
            .chain(self.waiting.iter().map(|waiting| waiting.ends))
            .chain(self.kept.values().map(|(_, until)| *until))
            .min()
    }

    pub fn leave(&mut self, host: u8) -> bool {
        self.close(|open| open.host == host);
        self.pinholes.retain(|pinhole| pinhole.host != host);
        self.waiting.retain(|waiting| waiting.wish.host != host);
        self.leases.remove(&host).is_some()
    }

    /// Opens a port or prolongs its mapping.
    pub fn map(&mut self, wish: &Wish) -> Result<Open, No> {
        if !self.leases.contains_key(&wish.host) {
            return Err(No::Refused);
        }
        let via = match (wish.via, self.carried) {
            (Via::Both, false) => Via::Ipv6,
            (Via::Ipv4, false) => return Err(No::Refused),
            (via, _) => via,
        };
        if !via.has_ipv4() && !self.delegated {
            return Err(No::Refused);
        }
        match self.grade(wish.host, wish.internal, wish.internal) {
            Grade::Denied => return Err(No::Refused),
            Grade::Asks => return Err(self.ask(wish, via, false)),
            Grade::Opens => {}
        }
        if let Some(index) = self.existing(wish, via)? {
            return Ok(self.renew(index, wish, via));
        }
        let external = match wish.wanted {
            Wanted::Exact(port) | Wanted::Required(port) => {
                let taken = !self.is_own(wish, port, via);
                match self.grade(wish.host, wish.internal, port) {
                    Grade::Denied => return Err(No::Refused),
                    Grade::Asks | Grade::Opens if taken => return Err(No::Refused),
                    Grade::Asks => return Err(self.ask(wish, via, false)),
                    Grade::Opens => port,
                }
            }
            Wanted::Any(port)
                if self.grade(wish.host, wish.internal, port) == Grade::Opens
                    && self.is_own(wish, port, via) =>
            {
                port
            }
            Wanted::Any(port) => self.search(wish, via, Some(port)),
            Wanted::Suggested(port) => self.search(wish, via, port),
        };
        let replaced = self.holders(wish.host, external, via);
        if replaced.is_empty() && self.is_full(wish.host) {
            return Err(No::Refused);
        }
        // what takes their place has the port: it is not kept
        for index in replaced.into_iter().rev() {
            self.open.remove(index);
        }
        let open = Open {
            id: self.next_id(),
            host: wish.host,
            internal: wish.internal,
            external,
            via,
            nonce: wish.nonce,
            filters: filtered(&[], &wish.filters),
            ends: self.ends(wish),
        };
        if via.has_ipv4() {
            self.kept.remove(&external);
        }
        self.waiting.retain(|waiting| {
            let about = waiting.wish.host == open.host && waiting.wish.internal == open.internal;
            let elsewhere = match waiting.wish.wanted {
                Wanted::Exact(port) | Wanted::Required(port) => port != external,
                Wanted::Any(_) | Wanted::Suggested(_) => false,
            };
            !about || elsewhere || waiting.pinhole
        });
        self.open.push(open.clone());
        Ok(open)
    }

    /// Opens a pinhole or prolongs it; at which external port is not asked.
    pub fn pierce(&mut self, wish: &Wish) -> Result<u16, No> {
        let (host, port) = (wish.host, wish.internal);
        if !self.leases.contains_key(&host) || !self.pierced {
            return Err(No::Refused);
        }
        match self.grade(host, port, port) {
            Grade::Denied => return Err(No::Refused),
            Grade::Asks => return Err(self.ask(wish, Via::Ipv6, true)),
            Grade::Opens => {}
        }
        let ends = self.ends(wish);
        let known = self.pinholes.iter_mut();
        let mut known = known.filter(|it| (it.host, it.port) == (host, port));
        if let Some(known) = known.next() {
            let fits = known.nonce.is_none() || known.nonce == wish.nonce;
            match (fits, wish.nonce) {
                (true, _) => {
                    known.ends = ends;
                    known.nonce = wish.nonce;
                    known.filters = filtered(&known.filters, &wish.filters);
                }
                (false, None) => known.ends = known.ends.max(ends),
                (false, Some(_)) => return Err(No::Refused),
            }
            return Ok(known.id);
        }
        if self.is_full(host) {
            return Err(No::Refused);
        }
        let newest = self.pinholes.iter().map(|it| it.id).max();
        let id = newest.unwrap_or_default() + 1;
        self.pinholes.push(Pinhole {
            id,
            host,
            port,
            nonce: wish.nonce,
            filters: filtered(&[], &wish.filters),
            ends,
        });
        let about = |it: &Waiting| it.pinhole && (it.wish.host, it.wish.internal) == (host, port);
        self.waiting.retain(|waiting| !about(waiting));
        Ok(id)
    }

    /// Returns whether the deletion must be granted.
    pub fn unpierce(&mut self, host: u8, port: u16, nonce: Option<u8>) -> bool {
        let is_meant = |it: &Pinhole| (it.host, it.port) == (host, port);
        let known = self.pinholes.iter().find(|it| is_meant(it));
        let may = known.is_none_or(|it| it.nonce.is_none() || it.nonce == nonce);
        if !may {
            return false;
        }
        self.pinholes.retain(|it| !is_meant(it));
        true
    }

    /// Opens the ports from the first on; returns the first, and how many.
    pub fn map_set(&mut self, wish: &Wish, size: u16) -> Result<(Open, u16), No> {
        let first = self.map(wish)?;
        let mut count = 1;
        while count < size {
            let next = Wish {
                internal: first.internal + count,
                wanted: Wanted::Required(first.external + count),
                ..wish.clone()
            };
            let opens = [next.internal, first.external + count]
                .into_iter()
                .all(|port| self.grade(wish.host, next.internal, port) == Grade::Opens);
            if !opens || self.map(&next).is_err() {
                break;
            }
            count += 1;
        }
        Ok((first, count))
    }

    /// Returns whether the deletion must be granted.
    pub fn unmap(&mut self, host: u8, port: u16, nonce: Option<u8>) -> bool {
        let is_meant = |open: &Open| open.host == host && open.internal == port;
        let may = |open: &Open| open.nonce.is_none() || open.nonce == nonce;
        let all = self.open.iter().filter(|open| is_meant(open)).all(may);
        self.close(|open| is_meant(open) && may(open));
        all
    }

    /// The mapping that is asked for again.
    fn existing(&self, wish: &Wish, via: Via) -> Result<Option<usize>, No> {
        let is_own = |open: &Open| open.host == wish.host && open.internal == wish.internal;
        let meets = |open: &Open| {
            (open.via.has_ipv6() && via.has_ipv6()) || (open.via.has_ipv4() && via.has_ipv4())
        };
        let by_internal = |wanted: Option<u16>| {
            let own = (0..self.open.len())
                .filter(|index| is_own(&self.open[*index]) && meets(&self.open[*index]));
            own.min_by_key(|index| {
                let open = &self.open[*index];
                let is_wanted = wanted == Some(open.external);
                (!is_wanted, open.external != open.internal, open.id)
            })
        };
        let found = match wish.wanted {
            Wanted::Any(port) | Wanted::Exact(port) => {
                let holders = self.holders(wish.host, port, via).into_iter();
                let own = holders.filter(|index| is_own(&self.open[*index]));
                own.min_by_key(|index| !self.open[*index].via.has_ipv6())
            }
            Wanted::Required(port) => {
                let found = by_internal(Some(port));
                if found.is_some_and(|index| self.open[index].external != port) {
                    return Err(No::Refused);
                }
                found
            }
            Wanted::Suggested(port) => by_internal(port),
        };
        let guard = found.and_then(|index| self.open[index].nonce);
        if guard.is_some() && wish.nonce.is_some() && guard != wish.nonce {
            return Err(No::Refused);
        }
        Ok(found)
    }

    fn renew(&mut self, index: usize, wish: &Wish, via: Via) -> Open {
        let ends = self.ends(wish);
        let known = self.open[index].clone();
        let shared = self.holders(wish.host, known.external, Via::Ipv4);
        let widens = via == Via::Both
            && known.via == Via::Ipv6
            && shared.is_empty()
            && !self.is_kept(wish.host, known.external, Via::Ipv4);
        let open = &mut self.open[index];
        if known.nonce.is_some() && known.nonce != wish.nonce {
            // a nonce guards it: it may only be kept open
            open.ends = known.ends.max(ends);
            return open.clone();
        }
        open.ends = ends;
        open.nonce = wish.nonce;
        open.filters = filtered(&known.filters, &wish.filters);
        if widens {
            open.via = Via::Both;
            self.kept.remove(&known.external);
        }
        self.open[index].clone()
    }

    /// Which mappings have a port where a new one would be reached.
    /// Tells whether a port is free, or held by what may be overwritten.
    fn is_own(&self, wish: &Wish, port: u16, via: Via) -> bool {
        let overwrites = !matches!(wish.wanted, Wanted::Required(_));
        let own = |open: &Open| {
            let may = open.nonce.is_none() || open.nonce == wish.nonce;
            overwrites && open.host == wish.host && may
        };
        let holders = self.holders(wish.host, port, via);
        holders.iter().all(|index| own(&self.open[*index])) && !self.is_kept(wish.host, port, via)
    }

    fn holders(&self, host: u8, port: u16, via: Via) -> Vec<usize> {
        let holds = |open: &Open| {
            let own = open.host == host && open.via.has_ipv6() && via.has_ipv6();
            let shared = open.via.has_ipv4() && via.has_ipv4();
            open.external == port && (own || shared)
        };
        (0..self.open.len())
            .filter(|index| holds(&self.open[*index]))
            .collect()
    }

    fn is_kept(&self, host: u8, port: u16, via: Via) -> bool {
        let kept = self.kept.get(&port);
        via.has_ipv4() && kept.is_some_and(|(owner, _)| *owner != host)
    }

    /// The wanted port, the internal one, or the next above 1023 that nobody has or keeps.
    fn search(&self, wish: &Wish, via: Via, wanted: Option<u16>) -> u16 {
        let free = |port: &u16| {
            self.grade(wish.host, wish.internal, *port) == Grade::Opens
                && self.holders(wish.host, *port, via).is_empty()
                && !self.is_kept(wish.host, *port, via)
        };
        let start = wanted.unwrap_or(wish.internal).max(1024);
        let first = wanted.into_iter().chain([wish.internal]).find(free);
        let unkept = |port: &u16| !via.has_ipv4() || !self.kept.contains_key(port);
        first
            .or_else(|| (start..=u16::MAX).filter(unkept).find(free))
            .unwrap_or_else(|| panic!("no port is free"))
    }

    /// When a mapping ends that is asked for now: not after what a person said.
    fn ends(&self, wish: &Wish) -> u64 {
        let later = HostPolicy {
            access: Access::Ask,
            ports: None,
            quota: None,
            until: None,
        };
        let (host, internal) = (wish.host, wish.internal);
        let until = match self.permissions.get(&(host, internal)) {
            Some(permission) => permission.until,
            None => {
                let stays = self.grade_by(later, host, internal, internal) == Grade::Opens;
                self.policy(host).until.filter(|_| !stays)
            }
        };
        // PCP alone tells what was given
        let least = wish.nonce.map_or(0, |_| LEAST);
        let seconds = wish.seconds.unwrap_or(MOST).clamp(least, MOST);
        let end = self.now + seconds;
        until.map_or(end, |until| end.min(until))
    }

    /// Closes mappings; their ports of the shared address are kept for their hosts.
    fn close(&mut self, closes: impl Fn(&Open) -> bool) {
        let (gone, open) = self.open.drain(..).partition(|open| closes(open));
        self.open = open;
        let gone: Vec<Open> = gone;
        for open in gone.iter().filter(|open| open.via.has_ipv4()) {
            self.kept
                .insert(open.external, (open.host, self.now + KEPT));
            let quota = self.policy(open.host).quota.unwrap_or(QUOTA);
            let of_host = |kept: &BTreeMap<u16, (u8, u64)>| {
                let own = kept.iter().filter(|(_, (host, _))| *host == open.host);
                own.map(|(port, (_, until))| (*until, *port))
                    .collect::<BTreeSet<_>>()
            };
            while of_host(&self.kept).len() > quota as usize {
                let (_, oldest) = of_host(&self.kept).pop_first().unwrap();
                self.kept.remove(&oldest);
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.given += 1;
        self.given
    }
}

fn filtered(old: &[u8], change: &Filters) -> Vec<u8> {
    let mut filters = if change.clear {
        Vec::new()
    } else {
        old.to_vec()
    };
    for filter in &change.add {
        if !filters.contains(filter) {
            filters.push(*filter);
        }
    }
    filters
}

/// Of the policy with which the core runs.
pub const LEAST: u64 = 120;
pub const MOST: u64 = 1000;
pub const QUOTA: u32 = 6;
const ALWAYS_REJECTED: [u16; 10] = [21, 23, 135, 137, 138, 139, 445, 3389, 5350, 5351];

/// RFC 6887 §15, for TCP.
const KEPT: u64 = 124 * 60;
