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
