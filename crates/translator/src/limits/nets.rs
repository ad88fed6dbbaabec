//! The networks of remotes that have sessions.

use std::num::NonZeroU32;

use crate::hash::Key;
use crate::limits::pace::Pace;
use crate::limits::{BY_NET, Count, Prefix, Share, Start};
use crate::session::Tick;
use crate::table::{Chain, Chained, Index, Link, Linked, List, Slab};

/// Networks by prefix. Most have one session, and take little: what it takes to count more stands
/// apart.
#[derive(Debug)]
pub(super) struct Nets {
    nets: Slab<Net>,
    by_prefix: Index<BY_PREFIX>,
    crowds: Slab<Crowd>,
    /// The crowds by their number of half-open sessions.
    by_weight: Vec<List<BY_WEIGHT>>,
    /// No crowd has more; [`HEAVIEST`] stands for more as well.
    heaviest: usize,
    /// Sessions that a network may begin in a second.
    per_second: u32,
    key: Key,
}

#[derive(Debug)]
pub(super) struct Net {
    prefix: Prefix,
    sessions: Sessions,
    chain: Chain,
}

/// The sessions of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sessions {
    /// Two or more, or one that had company a moment ago: the number of a [`Crowd`].
    Crowd(u32),
    /// One, of which more is not asked.
    Finished,
    /// One: its number.
    HalfOpen(u32),
    /// One, of which more is not asked.
    InUse,
}

#[derive(Debug)]
pub(super) struct Crowd {
    sessions: NonZeroU32,
    /// Those of them that are finished.
    finished: u32,
    pace: Pace,
    /// Half-open sessions, the oldest first.
    half_open: List<BY_NET>,
    by_weight: Link,
}

impl Nets {
    pub(super) fn new(sessions: u32, per_second: u32, key: Key) -> Self {
        Self {
            nets: Slab::new(sessions),
            by_prefix: Index::new(),
            crowds: Slab::new(sessions),
            by_weight: vec![List::default(); HEAVIEST + 1],
            heaviest: 0,
            per_second,
            key,
        }
    }

    /// Returns what the sessions of a network come to, if it has any.
    pub(super) fn count(&self, prefix: Prefix, now: Tick) -> Option<Count> {
        let one = Count {
            used: 1,
            half_open: 0,
            oldest: None,
            may_begin: Pace::of_one(self.per_second, now).allows(self.per_second, now),
        };
        Some(match self.nets.get(self.find(prefix)?)?.sessions {
            Sessions::Crowd(crowd) => self.crowds.get(crowd)?.count(self.per_second, now),
            Sessions::Finished => Count { used: 0, ..one },
            Sessions::HalfOpen(session) => Count {
                half_open: 1,
                oldest: Some(session),
                ..one
            },
            Sessions::InUse => one,
        })
    }

    pub(super) fn heaviest(&self) -> Option<(u32, u32)> {
        let crowd = self.by_weight.get(self.heaviest)?.head()?;
        let half_open = &self.crowds.get(crowd)?.half_open;
        Some((half_open.len(), half_open.head()?))
    }

    pub(super) fn add<T: Linked<BY_NET>>(
        &mut self,
        prefix: Prefix,
        share: Share,
        sessions: &mut Slab<T>,
        session: u32,
        start: Start,
    ) {
        let Some(id) = self.find(prefix) else {
            self.insert(prefix, Sessions::one(share, session));
            return;
        };
        let crowd = match self.nets.get(id).map(|net| net.sessions) {
            Some(Sessions::Crowd(crowd)) => crowd,
            Some(one) => match self.gather(id, one, sessions, start.tick()) {
                Some(crowd) => crowd,
                None => return,
            },
            None => return,
        };
        if let Some(crowd) = self.crowds.get_mut(crowd) {
            crowd.sessions = crowd.sessions.saturating_add(1);
            crowd.pace.start(self.per_second, start);
        }
        self.enter(crowd, share, sessions, session);
    }

    fn insert(&mut self, prefix: Prefix, sessions: Sessions) {
        let key = self.key;
        let net = self.nets.insert(Net {
            prefix,
            sessions,
            chain: Chain::default(),
        });
        if let Some(id) = net {
            self.by_prefix
                .insert(&mut self.nets, id, key.prefix(prefix), |net| {
                    key.prefix(net.prefix)
                });
        }
    }

    /// Makes a crowd of a network that has one session. Of that it is not known when it began: it is
    /// taken to have begun in the same moment as the second.
    fn gather<T: Linked<BY_NET>>(
        &mut self,
        net: u32,
        one: Sessions,
        sessions: &mut Slab<T>,
        now: Tick,
    ) -> Option<u32> {
        let crowd = self.crowds.insert(Crowd {
            sessions: NonZeroU32::MIN,
            finished: 0,
            pace: Pace::of_one(self.per_second, now),
            half_open: List::default(),
            by_weight: Link::default(),
        })?;
        match one {
            Sessions::Finished => self.enter(crowd, Share::Finished, sessions, 0),
            Sessions::HalfOpen(session) => self.enter(crowd, Share::HalfOpen, sessions, session),
            Sessions::Crowd(_) | Sessions::InUse => {}
        }
        self.nets.get_mut(net)?.sessions = Sessions::Crowd(crowd);
        Some(crowd)
    }

    pub(super) fn change<T: Linked<BY_NET>>(
        &mut self,
        prefix: Prefix,
        (from, to): (Share, Share),
        sessions: &mut Slab<T>,
        session: u32,
    ) {
        let net = self.find(prefix).and_then(|net| self.nets.get_mut(net));
        let Some(of_net) = net.map(|net| &mut net.sessions) else {
            return;
        };
        match *of_net {
            Sessions::Crowd(crowd) => {
                self.leave(crowd, from, sessions, session);
                self.enter(crowd, to, sessions, session);
            }
            Sessions::Finished | Sessions::HalfOpen(_) | Sessions::InUse => {
                *of_net = Sessions::one(to, session);
            }
        }
    }

    pub(super) fn remove<T: Linked<BY_NET>>(
        &mut self,
        prefix: Prefix,
        share: Share,
        sessions: &mut Slab<T>,
        session: u32,
        now: Tick,
    ) {
        let Some(id) = self.find(prefix) else {
            return;
        };
        if let Some(Sessions::Crowd(at)) = self.nets.get(id).map(|net| net.sessions) {
            self.leave(at, share, sessions, session);
            let Some(crowd) = self.crowds.get_mut(at) else {
                return;
            };
            if let Some(left) = NonZeroU32::new(crowd.sessions.get() - 1) {
                crowd.sessions = left;
                // how fast it has begun sessions is not forgotten as long as it matters
                if left == NonZeroU32::MIN && crowd.pace.is_full(self.per_second, now) {
                    self.part(id, at, sessions);
                }
                return;
            }
            self.crowds.remove(at);
        }
        let hash = self.key.prefix(prefix);
        self.by_prefix.remove(&mut self.nets, id, hash);
        self.nets.remove(id);
    }

    /// Makes a network with one session of a crowd that has one.
    fn part<T: Linked<BY_NET>>(&mut self, net: u32, at: u32, sessions: &mut Slab<T>) {
        let Some(crowd) = self.crowds.get(at) else {
            return;
        };
        let one = match crowd.half_open.head() {
            Some(session) => Sessions::HalfOpen(session),
            None if crowd.finished > 0 => Sessions::Finished,
            None => Sessions::InUse,
        };
        if let Sessions::HalfOpen(session) = one {
            self.leave(at, Share::HalfOpen, sessions, session);
        }
        self.crowds.remove(at);
        if let Some(net) = self.nets.get_mut(net) {
            net.sessions = one;
        }
    }

    fn enter<T: Linked<BY_NET>>(
        &mut self,
        crowd: u32,
        share: Share,
        sessions: &mut Slab<T>,
        session: u32,
    ) {
        self.recount(
            (crowd, share),
            |finished| *finished += 1,
            |half_open| half_open.push_back(sessions, session),
        );
    }

    fn leave<T: Linked<BY_NET>>(
        &mut self,
        crowd: u32,
        share: Share,
        sessions: &mut Slab<T>,
        session: u32,
    ) {
        self.recount(
            (crowd, share),
            |finished| *finished -= 1,
            |half_open| half_open.unlink(sessions, session),
        );
    }

    /// Changes whichever count of a crowd goes with a share.
    fn recount(
        &mut self,
        (id, share): (u32, Share),
        finished: impl FnOnce(&mut u32),
        half_open: impl FnOnce(&mut List<BY_NET>),
    ) {
        match share {
            Share::Finished => {
                if let Some(crowd) = self.crowds.get_mut(id) {
                    finished(&mut crowd.finished);
                }
            }
            Share::HalfOpen => self.weigh(id, half_open),
            Share::InUse => {}
        }
    }

    fn weigh(&mut self, id: u32, change: impl FnOnce(&mut List<BY_NET>)) {
        let Some(crowd) = self.crowds.get_mut(id) else {
            return;
        };
        let before = crowd.weight();
        change(&mut crowd.half_open);
        let after = crowd.weight();
        if before == after {
            return;
        }
        if before > 0
            && let Some(list) = self.by_weight.get_mut(before)
        {
            list.unlink(&mut self.crowds, id);
        }
        if after > 0
            && let Some(list) = self.by_weight.get_mut(after)
        {
            list.push_back(&mut self.crowds, id);
        }
        self.heaviest = self.heaviest.max(after);
        while self.heaviest > 0
            && self
                .by_weight
                .get(self.heaviest)
                .is_none_or(|list| list.len() == 0)
        {
            self.heaviest -= 1;
        }
    }

    fn find(&self, prefix: Prefix) -> Option<u32> {
        let is = |net: &Net| net.prefix == prefix;
        self.by_prefix.find(&self.nets, self.key.prefix(prefix), is)
    }
}

impl Sessions {
    const fn one(share: Share, session: u32) -> Self {
        match share {
            Share::Finished => Self::Finished,
            Share::HalfOpen => Self::HalfOpen(session),
            Share::InUse => Self::InUse,
        }
    }
}

impl Crowd {
    fn count(&self, per_second: u32, now: Tick) -> Count {
        Count {
            used: self.sessions.get() - self.finished,
            half_open: self.half_open.len(),
            oldest: self.half_open.head(),
            may_begin: self.pace.allows(per_second, now),
        }
    }

    fn weight(&self) -> usize {
        usize::try_from(self.half_open.len()).map_or(HEAVIEST, |len| len.min(HEAVIEST))
    }
}

impl Chained<BY_PREFIX> for Net {
    fn chain(&self) -> Chain {
        self.chain
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

impl Linked<BY_WEIGHT> for Crowd {
    fn link(&mut self) -> &mut Link {
        &mut self.by_weight
    }

    fn peek(&self) -> &Link {
        &self.by_weight
    }
}

const BY_PREFIX: usize = 17;
const BY_WEIGHT: usize = 18;

/// Crowds with as many half-open sessions or more are one as heavy as another.
const HEAVIEST: usize = 1023;

#[cfg(test)]
mod tests {
    use super::*;

    impl Nets {
        pub(in crate::limits) fn sizes(&self) -> (u32, u32) {
            (self.nets.len(), self.crowds.len())
        }
    }

    #[test]
    fn net_is_small() {
        assert_eq!(size_of::<Option<Net>>(), 20);
        assert_eq!(size_of::<Option<Crowd>>(), 28);
    }
}
