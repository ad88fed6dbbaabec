//! REST API, live events and pages, and the typed client of the CLI.
