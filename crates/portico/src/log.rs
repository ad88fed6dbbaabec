//! Logs on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging; `$PORTICO_LOG` chooses, as in `debug` or `info,pcp=trace`.
pub fn start() {
    let filter = EnvFilter::try_from_env("PORTICO_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // a second start in one process keeps the first
    let _already = builder.try_init();
}

/// The DNS library tells every query with its source address at INFO; people's addresses stay
/// below that here.
const DEFAULT: &str = "info,hickory_server=warn,hickory_net=warn";
