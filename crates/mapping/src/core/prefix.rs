//! Prefix generations: make before break (RFC 9526 §12).

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::{Core, Ends};
use crate::{
    AuditAction, Change, Epoch, Generation, GenerationId, Grant, InvalidPrefix, Now, Outcome,
    PrefixRequest, Refusal, Requester, Waits,
};

impl Core {
    /// Makes a delegation the newest valid generation. Names follow with [`Self::prefer`], once
    /// the translator accepts it.
    pub(super) fn prefix(&mut self, request: &PrefixRequest, now: Now) -> (Outcome, Waits) {
        match self.try_prefix(request, now) {
            Ok(generation) => (
                Outcome::Granted(Grant::Prefixed(generation)),
                self.packets(),
            ),
            Err(invalid) => (
                Outcome::Refused(Refusal::PrefixInvalid(invalid)),
                Waits::default(),
            ),
        }
    }

    pub(super) fn prefer(&mut self, id: GenerationId, now: Now) -> (Outcome, Waits) {
        let Some(generation) = self.snapshot.generations.get(&id).copied() else {
            return (Outcome::Refused(Refusal::NotFound), Waits::default());
        };
        if !generation.preferred {
            let others: Vec<_> = self.snapshot.generations.values().copied().collect();
            for other in others.into_iter().filter(|other| other.preferred) {
                self.put_generation(
                    Generation {
                        preferred: false,
                        ..other
                    },
                    now,
                );
            }
            self.put_generation(
                Generation {
                    preferred: true,
                    ..generation
                },
                now,
            );
            // P-9: every external address changed
            self.snapshot.counters.pcp_epoch = Epoch::starting(self.snapshot.boot, now.mono);
            self.touch_names();
        }
        (
            Outcome::Granted(Grant::Done),
            Waits::for_names(self.snapshot.names_in),
        )
    }

    pub(super) fn wan_addresses(&mut self, addresses: &[Ipv6Addr]) -> (Outcome, Waits) {
        if *self.snapshot.wan_addresses != *addresses {
            self.snapshot.wan_addresses = Arc::from(addresses);
            self.record(Change::WanChanged);
            self.touch_names();
        }
        (Outcome::Granted(Grant::Done), Waits::default())
    }

    /// A generation ends: packets to it stop.
    pub(super) fn withdraw(&mut self, id: GenerationId, now: Now) {
        let Some(generation) = self.snapshot.generations.remove(&id) else {
            return;
        };
        if let Some(expiry) = generation.valid_until {
            self.unschedule(expiry, Ends::Generation(id));
        }
        let work = self.work();
        work.generations.insert(id, None);
        work.closings.generations.insert(id);
        let target = generation.delegated.to_string();
        self.audit(Requester::Wan, AuditAction::PrefixWithdrawn, target, now);
        self.record(Change::PrefixWithdrawn(generation));
        self.touch_packets();
        if generation.preferred {
            self.touch_names();
        }
    }

    fn try_prefix(
        &mut self,
        request: &PrefixRequest,
        now: Now,
    ) -> Result<Generation, InvalidPrefix> {
        let nsp = request.usable_nsp()?;
        let known = self
            .snapshot
            .generations
            .values()
            .find(|known| known.nsp == nsp)
            .copied();
        if let Some(known) = known
            && known.valid_until.is_none()
            && known.delegated == request.delegated
        {
            return Ok(known);
        }
        let others: Vec<_> = self.snapshot.generations.values().copied().collect();
        for other in others.into_iter().filter(|other| other.nsp != nsp) {
            let end = self.expiry(request.old_valid, now);
            let sooner = other
                .valid_until
                .filter(|old| self.snapshot.remaining(*old, now) < request.old_valid);
            let valid_until = Some(sooner.unwrap_or(end));
            self.put_generation(
                Generation {
                    valid_until,
                    ..other
                },
                now,
            );
        }
        // a prefix that comes back is the newest again
        if let Some(known) = known {
            self.withdraw(known.id, now);
            // the same NSP goes on: if that cannot be stored, nothing closes
            self.work().closings.generations.remove(&known.id);
        }
        let id = self.next_generation;
        self.next_generation = GenerationId(id.0.saturating_add(1));
        let preferred = known.is_some_and(|known| known.preferred);
        let delegated = request.delegated;
        let generation = Generation {
            id,
            delegated,
            nsp,
            preferred,
            valid_until: None,
        };
        self.put_generation(generation, now);
        self.touch_packets();
        Ok(generation)
    }

    fn put_generation(&mut self, generation: Generation, now: Now) {
        let old = self.snapshot.generations.insert(generation.id, generation);
        if old == Some(generation) {
            return;
        }
        if let Some(expiry) = old.and_then(|old| old.valid_until) {
            self.unschedule(expiry, Ends::Generation(generation.id));
        }
        if let Some(expiry) = generation.valid_until {
            self.schedule(expiry, Ends::Generation(generation.id));
        }
        self.work()
            .generations
            .insert(generation.id, Some(generation));
        if old.is_none_or(|old| old.preferred != generation.preferred) {
            let target = format!(
                "{} preferred={}",
                generation.delegated, generation.preferred
            );
            self.audit(Requester::Wan, AuditAction::PrefixChanged, target, now);
        }
        self.record(Change::PrefixChanged(generation));
    }
}
