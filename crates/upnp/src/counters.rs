//! What happened, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway::Count;

/// The counters of the room; clones count into the same place.
#[derive(Debug, Clone)]
pub struct Counters(Arc<[AtomicU64; Event::ALL.len()]>);

impl Counters {
    /// Makes counters that stand at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// Counts an event.
    pub fn count(&self, event: Event) {
        if let Some(counter) = self.0.get(event.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how often an event was counted.
    #[must_use]
    pub fn value(&self, event: Event) -> u64 {
        self.0
            .get(event.index())
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Returns every counter, in the form in which the dashboard reads them.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        let count = |event: Event| {
            let (name, reason) = event.name();
            Count::new(name, reason, self.value(event))
        };
        Event::ALL.into_iter().map(count).collect()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $reason:literal;)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $variant,)*
        }

        impl Event {
            /// Every event.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Returns the counter's name and its reason.
            #[must_use]
            pub const fn name(self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$variant => ($name, $reason),)*
                }
            }

            fn index(self) -> usize {
                Self::ALL.iter().position(|event| *event == self).unwrap_or(usize::MAX)
            }
        }
    };
}

events! {
    /// An action was carried out.
    ActionDone => "actions_total", "done";
    /// An action was answered with an error that the core decided.
    ActionRefused => "actions_total", "refused";
    /// An action's arguments were missing or wrong.
    ActionInvalid => "actions_total", "invalid-arguments";
    /// An action was asked for that its service does not have.
    ActionUnknown => "actions_total", "unknown-action";
    /// An action was asked for what nothing here can tell.
    ActionUnsupported => "actions_total", "not-built";
    /// A mapping was asked for another host than the asking one.
    ActionForeignClient => "actions_total", "foreign-client";
    /// A mapping was asked for a single remote host.
    ActionRemoteHost => "actions_total", "remote-host";
    /// A mapping was asked for that would not be enabled.
    ActionDisabledMapping => "actions_total", "disabled-mapping";
    /// A connection was accepted.
    ConnectionAccepted => "connections_total", "accepted";
    /// Accepting a connection failed.
    ConnectionFailed => "connections_total", "accept-failed";
    /// A connection came from outside the LAN.
    ConnectionForeign => "connections_total", "not-from-lan";
    /// A connection came in frames of another host than the one that has its address.
    ConnectionForged => "connections_total", "forged";
    /// Nobody knows which host's frames a connection came in.
    ConnectionUnknown => "connections_total", "unknown-mac";
    /// There were too many connections, of one source or of all.
    ConnectionLimit => "connections_total", "too-many";
    /// A request's header or body took too long.
    ConnectionTimeout => "connections_total", "too-slow";
    /// A document was fetched.
    DocumentServed => "http_requests_total", "document";
    /// A request was not HTTP.
    HttpMalformed => "http_requests_total", "malformed";
    /// A body was larger than it may be.
    HttpTooLarge => "http_requests_total", "too-large";
    /// The Host header named somebody else.
    HttpForeignHost => "http_requests_total", "foreign-host";
    /// A web page sent the request.
    HttpOrigin => "http_requests_total", "origin";
    /// The path leads nowhere.
    HttpNotFound => "http_requests_total", "not-found";
    /// The method does not fit the path.
    HttpMethod => "http_requests_total", "method";
    /// The content type is not XML.
    HttpContentType => "http_requests_total", "content-type";
    /// The SOAPACTION header is missing or no action of a service.
    SoapActionMissing => "soap_requests_total", "no-soapaction";
    /// The SOAPACTION header and the body name different actions.
    SoapActionMismatch => "soap_requests_total", "soapaction-mismatch";
    /// The body is no SOAP envelope, or one beyond the limits.
    SoapMalformed => "soap_requests_total", "malformed";
    /// A subscriber took an event.
    NotifyDelivered => "events_total", "delivered";
    /// A subscriber did not take an event.
    NotifyFailed => "events_total", "failed";
    /// A subscriber said that it knows nothing of its subscription.
    NotifyUnknown => "events_total", "unknown";
    /// A subscription was accepted.
    SubscriptionAccepted => "subscriptions_total", "accepted";
    /// A subscription ended: its time was over, its host left, or it was ended.
    SubscriptionEnded => "subscriptions_total", "ended";
    /// A subscription would have sent events to somebody else.
    SubscriptionForeign => "subscriptions_total", "foreign-callback";
    /// There were too many subscriptions, of one host or of all.
    SubscriptionLimit => "subscriptions_total", "too-many";
    /// A request for a subscription was wrong.
    SubscriptionRefused => "subscriptions_total", "refused";
    /// A subscription was prolonged.
    SubscriptionRenewed => "subscriptions_total", "renewed";
    /// A search was answered.
    SearchAnswered => "searches_total", "answered";
    /// A search came from outside the LAN.
    SearchForeign => "searches_total", "not-from-lan";
    /// A search came in a frame of another host than the one that has its address.
    SearchForged => "searches_total", "forged";
    /// A search by multicast said no MX (UDA 1.1 §1.3.3).
    SearchWithoutMx => "searches_total", "no-mx";
    /// A search looked for something else.
    SearchOther => "searches_total", "other-target";
    /// A source searched more often than is answered.
    SearchRate => "searches_total", "rate";
    /// Too many answers waited for their time.
    SearchQueue => "searches_total", "queue-full";
    /// A datagram was no SSDP message.
    SsdpMalformed => "ssdp_datagrams_total", "malformed";
    /// A datagram was the announcement or answer of another device.
    SsdpOther => "ssdp_datagrams_total", "not-a-search";
    /// An announcement or answer was sent.
    SsdpSent => "ssdp_datagrams_total", "sent";
    /// An announcement or answer could not be sent.
    SsdpSendFailed => "ssdp_datagrams_total", "send-failed";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_has_a_counter_of_its_own() {
        let counters = Counters::new();

        for event in Event::ALL {
            counters.count(event);
        }

        let names: BTreeSet<_> = Event::ALL.into_iter().map(Event::name).collect();
        assert_eq!(names.len(), Event::ALL.len());
        assert!(counters.counts().iter().all(|count| count.value == 1));
    }
}
