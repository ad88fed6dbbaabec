//! The machines of UPnP with the real core behind them: whatever is said on a connection, asked
//! of a service, searched for or subscribed to.

#[path = "upnp_server/connection.rs"]
mod connection;
#[path = "upnp_server/control.rs"]
mod control;
#[path = "upnp_server/discovery.rs"]
mod discovery;
#[path = "upnp_server/events.rs"]
mod events;

use mapping::{BootId, Core, Instant, Now, Policy, Site, Wall};

/// The first byte says to which machine the rest goes.
pub fn run(input: &[u8]) {
    let Some((machine, input)) = input.split_first() else {
        return;
    };
    match machine % 4 {
        0 => connection::run(input),
        1 => control::run(input),
        2 => discovery::run(input),
        _ => events::run(input),
    }
}

/// A home in which nothing has happened yet.
#[allow(clippy::unwrap_used, reason = "a scenario stops at the first surprise")]
fn new_home() -> (Core, Now) {
    let now = Now {
        mono: Instant::from_nanos(1_000_000_000_000),
        wall: Wall::from_secs(1_800_000_000),
    };
    let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
    let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
    (core, now)
}
