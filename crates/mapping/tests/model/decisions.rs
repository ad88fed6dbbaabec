//! What people decide, and what the policies then open, in the model.

use super::*;

impl Model {
    /// A person says yes, maybe for so long, about what waits or is open.
    pub fn allow(&mut self, id: u64, lasts: Option<u64>) -> Result<(), No> {
        let until = lasts.map(|lasts| self.now + lasts);
        let allowed = Permission { allow: true, until };
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
            open.ends = until.map_or(open.ends, |until| open.ends.min(until));
            self.permissions.insert((open.host, open.internal), allowed);
            return Ok(());
        }
        let index = self.waiting.iter().position(|it| it.id == id);
        let before = self.clone();
        let waiting = self.waiting.remove(index.ok_or(No::Refused)?);
        let port = (waiting.wish.host, waiting.wish.internal);
        self.permissions.insert(port, allowed);
        self.open_waiting(waiting, lasts)
            .inspect_err(|_| *self = before)?;
        // one answer is for the mapping and the pinhole
        let about = |it: &Waiting| (it.wish.host, it.wish.internal) == port;
        if let Some(index) = self.waiting.iter().position(about) {
            let before = self.clone();
            let other = self.waiting.remove(index);
            if self.open_waiting(other, lasts).is_err() {
                *self = before;
            }
        }
        Ok(())
    }

    fn open_waiting(&mut self, waiting: Waiting, lasts: Option<u64>) -> Result<(), No> {
        let wish = Wish {
            nonce: None,
            seconds: lasts,
            ..waiting.wish
        };
        if waiting.pinhole {
            return self.pierce(&wish).map(drop);
        }
        let given = std::mem::replace(&mut self.given, waiting.id - 1);
        let opened = self.map(&wish);
        self.given = given;
        opened.map(drop)
    }

    /// A person says no.
    pub fn deny(&mut self, id: u64) -> bool {
        let waiting = self.waiting.iter().find(|it| it.id == id);
        let waiting = waiting.map(|it| (it.wish.host, it.wish.internal));
        let open = self.open.iter().find(|it| it.id == id);
        let open = open.map(|it| (it.host, it.internal));
        let Some(port) = waiting.or(open) else {
            return false;
        };
        let is_answered = |it: &Waiting| (it.wish.host, it.wish.internal) == port;
        if waiting.is_some() {
            self.waiting.retain(|it| !is_answered(it));
        }
        let denied = Permission {
            allow: false,
            until: None,
        };
        self.permissions.insert(port, denied);
        self.close_not_permitted(port.0);
        self.close(|open| open.id == id);
        true
    }

    pub fn forget(&mut self, host: u8, port: u16) -> bool {
        let known = self.permissions.remove(&(host, port)).is_some();
        self.close_not_permitted(host);
        known
    }

    pub fn rule(&mut self, host: u8, policy: Option<HostPolicy>) -> bool {
        if !self.known.contains(&host) {
            return false;
        }
        self.policies.remove(&host);
        self.policies.extend(policy.map(|policy| (host, policy)));
        self.close_not_permitted(host);
        if self.policy(host).access == Access::Deny {
            self.waiting.retain(|waiting| waiting.wish.host != host);
        }
        true
    }

    /// Asks a person, unless the host has as much as it may.
    pub(super) fn ask(&mut self, wish: &Wish, via: Via, pinhole: bool) -> No {
        let wish = Wish {
            via,
            seconds: None,
            filters: Filters {
                clear: false,
                add: filtered(&[], &wish.filters),
            },
            ..wish.clone()
        };
        let port = (wish.host, wish.internal, pinhole);
        let about = |it: &Waiting| (it.wish.host, it.wish.internal, it.pinhole) == port;
        let known = self.waiting.iter().position(about);
        if known.is_none() && self.is_full(wish.host) {
            return No::Refused;
        }
        let is_old_news = known.is_some_and(|index| {
            let known = &self.waiting[index];
            known.wish == wish && self.now - known.asked < 60
        });
        if !is_old_news {
            let known = known.map(|index| self.waiting.remove(index).id);
            let id = known.unwrap_or_else(|| self.next_id());
            self.waiting.push(Waiting {
                id,
                pinhole,
                wish,
                asked: self.now,
                ends: self.now + MOST,
            });
        }
        No::Waits
    }

    pub(super) fn grade(&self, host: u8, internal: u16, port: u16) -> Grade {
        if ALWAYS_REJECTED.contains(&port) {
            return Grade::Denied;
        }
        self.grade_by(self.policy(host), host, internal, port)
    }

    pub(super) fn grade_by(&self, policy: HostPolicy, host: u8, internal: u16, port: u16) -> Grade {
        if policy.access == Access::Deny {
            return Grade::Denied;
        }
        if let Some(permission) = self.permissions.get(&(host, internal)) {
            return match permission.allow {
                true => Grade::Opens,
                false => Grade::Denied,
            };
        }
        if policy.ports.unwrap_or(PortClass::WebAndHigh).contains(port) {
            return Grade::Opens;
        }
        match policy.access {
            Access::Ask => Grade::Asks,
            Access::Allow | Access::Deny => Grade::Denied,
        }
    }

    pub(super) fn policy(&self, host: u8) -> HostPolicy {
        let default = HostPolicy {
            access: Access::Ask,
            ports: None,
            quota: None,
            until: None,
        };
        self.policies.get(&host).copied().unwrap_or(default)
    }

    pub(super) fn is_full(&self, host: u8) -> bool {
        let open = self.open.iter().filter(|open| open.host == host).count();
        let waiting = self.waiting.iter().filter(|it| it.wish.host == host);
        let pinholes = self.pinholes.iter().filter(|it| it.host == host);
        let quota = self.policy(host).quota.unwrap_or(QUOTA);
        open + waiting.count() + pinholes.count() >= quota as usize
    }

    pub(super) fn close_not_permitted(&mut self, host: u8) {
        let model = self.clone();
        self.pinholes.retain(|pinhole| {
            let opens = model.grade(host, pinhole.port, pinhole.port) == Grade::Opens;
            pinhole.host != host || opens
        });
        self.close(|open| {
            let opens = |port| model.grade(host, open.internal, port) == Grade::Opens;
            open.host == host && !(opens(open.internal) && opens(open.external))
        });
    }
}
