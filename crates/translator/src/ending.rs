//! How sessions end: by time, with their port or prefix, for others, or because a person says so.
//!
//! What ends with a port or a prefix is refused at once; its place is given back in steps, so that
//! no packet waits for a million sessions.

use mapping::Instant;

use crate::admission::{Gone, RuleId};
use crate::event::{EndReason, Event};
use crate::filter::Filter;
use crate::nsps::NspId;
use crate::proof::Proof;
use crate::session::{Found, Lifetime, SessionId, Tick};
use crate::tcp_state::TcpState;
use crate::view::Session;

/// What is to end and has not been looked at.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    rules: Vec<RuleId>,
    /// Rules whose sessions are to be compared with whom they admit.
    narrowed: Vec<RuleId>,
    /// Up to where sessions were compared with the prefixes that have ended.
    cursor: u32,
}

/// What became of a session whose lifetime ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    Ended,
    /// Both sides are to be asked whether they are alive.
    ProbeBoth,
    /// The server is to be asked whether the reset was real.
    ProbeServer,
    /// It has some time more.
    Waits,
}

impl Filter {
    /// Ends the sessions of rules that have gone, and those of remotes that a rule no longer
    /// admits, from now on, or lets them go on.
    pub(crate) fn handle_gone(&mut self, gone: Gone, end: bool) {
        for rule in gone.narrowed.into_iter().flatten().filter(|_| end) {
            let sessions = self.sessions.len_of_rule(rule);
            if sessions > 0 {
                self.admissions.narrow(rule, sessions);
                self.endings.narrowed.push(rule);
            }
        }
        for rule in gone.ended.into_iter().flatten() {
            if self.sessions.any_of_rule(rule).is_none() {
                self.admissions.free(rule);
            } else if end {
                self.endings.rules.push(rule);
            } else {
                self.admissions.linger(rule);
            }
        }
    }

    /// Ends the sessions of a prefix, from now on.
    pub(crate) fn end_nsp(&mut self, nsp: NspId) {
        self.nsps.end(nsp);
        self.endings.cursor = 0;
    }

    /// Tells whether places of ended sessions are still to be given back.
    pub(crate) fn is_ending(&self) -> bool {
        !self.endings.rules.is_empty() || !self.endings.narrowed.is_empty() || self.nsps.any_ended()
    }

    /// Gives back places of ended sessions, after at most so many looks.
    pub(crate) fn give_back(&mut self, looks: u32, now: Tick) {
        for _ in 0..looks {
            if let Some(rule) = self.endings.rules.last().copied() {
                // the number may have been given out again
                match self.sessions.any_of_rule(rule) {
                    Some(id) if self.admissions.has_ended(rule) => {
                        self.end(id, EndReason::Closed, now);
                    }
                    Some(_) | None => {
                        self.endings.rules.pop();
                    }
                }
            } else if let Some(rule) = self.endings.narrowed.last().copied() {
                self.compare_next(rule, now);
            } else if self.nsps.any_ended() {
                self.give_back_next(now);
            } else {
                break;
            }
        }
    }

    /// Compares the next session of a rule with whom it admits. Those that were looked at stand
    /// behind the others, as those that begin meanwhile.
    fn compare_next(&mut self, rule: RuleId, now: Tick) {
        let next = self.sessions.any_of_rule(rule);
        match next.filter(|_| self.admissions.look(rule)) {
            Some(id) if self.sessions.get(id).is_some_and(|it| self.passes(&it)) => {
                self.sessions.rotate_rule(rule);
            }
            Some(id) => self.end(id, EndReason::Closed, now),
            None => {
                self.admissions.compared(rule);
                self.endings.narrowed.pop();
            }
        }
    }

    fn give_back_next(&mut self, now: Tick) {
        let id = SessionId(self.endings.cursor);
        if id.0 >= self.sessions.end() {
            self.nsps.free_ended();
            return;
        }
        self.endings.cursor += 1;
        if self
            .sessions
            .get(id)
            .is_some_and(|entry| !self.passes(&entry))
        {
            self.end(id, EndReason::Closed, now);
        }
    }

    /// Tells whether neither the port nor the prefix of a session has ended, and the port still
    /// admits its remote.
    pub(crate) fn passes(&self, entry: &Found<'_>) -> bool {
        self.admissions.keeps(entry.rule, &entry.six) && self.nsps.get(entry.six.nsp).is_some()
    }

    /// Returns a session that was found unless it has ended and only stands there still.
    pub(crate) fn alive(&mut self, id: SessionId, now: Tick) -> Option<SessionId> {
        let entry = self.sessions.get(id)?;
        if !self.passes(&entry) {
            self.end(id, EndReason::Closed, now);
            return None;
        }
        let mut deadline = self.sessions.deadline(&entry);
        while deadline <= now {
            if self.expire(id, now) == Expired::Ended {
                return None;
            }
            let entry = self.sessions.get(id)?;
            deadline = self.sessions.deadline(&entry);
        }
        Some(id)
    }

    /// Ends a session whose lifetime has ended, or gives it time to show that it is alive.
    pub(crate) fn expire(&mut self, id: SessionId, now: Tick) -> Expired {
        if self
            .sessions
            .get(id)
            .is_none_or(|entry| !self.passes(&entry))
        {
            self.end(id, EndReason::Closed, now);
            return Expired::Ended;
        }
        let deadline = self
            .sessions
            .get(id)
            .map(|entry| self.sessions.deadline(&entry));
        let (Some(entry), Some(deadline)) = (self.sessions.get_mut(id), deadline) else {
            return Expired::Ended;
        };
        let fate = match (entry.lifetime, entry.tcp) {
            (Lifetime::TcpEstablished, Some(TcpState::Established)) => {
                entry.tcp = Some(TcpState::Trans);
                Expired::ProbeBoth
            }
            // RFC 6146 §3.5.2.2 probes no connection that one side has finished; the time that
            // RFC 5382 REQ-5 asks for is the same.
            (Lifetime::TcpEstablished, _) => Expired::Waits,
            (Lifetime::TcpReset, _) => Expired::ProbeServer,
            _ => {
                self.end(id, EndReason::Expired, now);
                return Expired::Ended;
            }
        };
        // from when it was due: a late wake-up prolongs nothing
        self.sessions
            .touch_earlier(id, Lifetime::TcpTransitory, deadline);
        fate
    }

    /// Ends a session and gives back its binding.
    pub(crate) fn end(&mut self, id: SessionId, why: EndReason, now: Tick) {
        let told = self.sessions.get(id).is_some_and(|entry| entry.told);
        if told && let Some(session) = self.view(id, self.ticks.instant(now)) {
            self.events.push(Event::Ended { session, why });
        }
        if why == EndReason::Closed {
            self.sever(id, now);
        }
        self.will_end(id);
        let Some(entry) = self.sessions.remove(id, now) else {
            return;
        };
        // what makes room for another session is to be its place
        if why == EndReason::Evicted {
            self.sessions.bib.release(entry.bib);
        } else {
            self.sessions.bib.retire(entry.bib, now);
        }
        if self.sessions.any_of_rule(entry.rule).is_none() {
            self.admissions.free(entry.rule);
        }
        if let Some(count) = self.ended.get_mut(why as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// Keeps in mind that a connection was cut, which nobody has forged.
    fn sever(&mut self, id: SessionId, now: Tick) {
        if let Some(entry) = self.sessions.get(id)
            && entry.tcp.is_some()
            && entry.proof == Proof::Given
        {
            self.severed.add(&entry.six, &entry.four, now);
        }
    }

    /// Tells of a session that has begun, once.
    pub(crate) fn tell(&mut self, id: SessionId, now: Tick) {
        let Some(session) = self.view(id, self.ticks.instant(now)) else {
            return;
        };
        if session.proven || self.events.may_tell_unproven(now) {
            self.events.push(Event::Began(session));
            if let Some(entry) = self.sessions.get_mut(id) {
                entry.told = true;
            }
        }
    }

    /// Returns a session as people see it, even if its prefix has ended.
    pub(crate) fn view(&self, id: SessionId, now: Instant) -> Option<Session> {
        let entry = self.sessions.get(id)?;
        let external = self.nsps.embed(entry.six.nsp, entry.six.server)?;
        let deadline = self.ticks.instant(self.sessions.deadline(&entry));
        Some(Session {
            transport: entry.six.transport,
            remote: (entry.six.remote, entry.six.remote_port),
            external: (external, entry.six.external_port),
            pool: (entry.four.pool, entry.four.pool_port),
            server: (entry.four.server, entry.four.internal_port),
            tcp: entry.tcp,
            proven: entry.proof == Proof::Given,
            age: self.ticks.since(entry.opened, now),
            expires_in: deadline - now,
            six_to_four: entry.traffic.0.total(),
            four_to_six: entry.traffic.1.total(),
        })
    }
}
