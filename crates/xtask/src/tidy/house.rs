//! Which crate may know which, by their manifests; and where SQL may stand.

use super::Finding;
use crate::repository::Crate;
use crate::source::Source;

/// Rules 1 and 2: the crates of the house know only those behind their own doors.
pub fn knows(member: &Crate, house: &[&str], manifest: &str) -> Vec<Finding> {
    let shipped = member
        .dependencies
        .iter()
        .filter(|dependency| !dependency.dev);
    let mut findings = Vec::new();
    for dependency in shipped {
        let name = dependency.name.as_str();
        let line = line_of(manifest, name);
        if house.contains(&name) && !may_know(&member.name, name) {
            let advice = format!("{} may not know {name}; see ARCHITECTURE.md", member.name);
            findings.push(Finding::new(&member.manifest, line, "house", advice));
        }
        if member.name == "mapping" && RUNTIMES.iter().any(|runtime| matches(runtime, name)) {
            let advice = format!("mapping does no I/O: leave {name} to the shells");
            findings.push(Finding::new(&member.manifest, line, "house", advice));
        }
    }
    findings
}

/// Rule 4: a crate with an owner is a dependency of its owner only.
pub fn owns(member: &Crate, manifest: &str) -> Vec<Finding> {
    let shipped = member
        .dependencies
        .iter()
        .filter(|dependency| !dependency.dev);
    shipped
        .filter_map(|dependency| {
            let owners = foreign(&member.name, &dependency.name)?;
            let advice = format!("{} belongs to {owners}", dependency.name);
            let line = line_of(manifest, &dependency.name);
            Some(Finding::new(&member.manifest, line, "owner", advice))
        })
        .collect()
}

/// Rule 1: nobody but the store knows SQL.
pub fn sql(source: &Source) -> Vec<Finding> {
    let Some(room) = room(&source.path) else {
        return Vec::new();
    };
    // lab plays the outside world; xtask holds the words that this rule looks for.
    if matches!(room, "store" | "lab" | "xtask") {
        return Vec::new();
    }
    source
        .shipped(&source.strings)
        .filter(|(_, line)| SQL.iter().any(|words| line.contains(words)))
        .map(|(line, _)| {
            Finding::new(
                &source.path,
                line,
                "sql",
                "give the store an operation for it",
            )
        })
        .collect()
}

/// The owners of `name`, if `room` is none of them.
pub fn foreign(room: &str, name: &str) -> Option<String> {
    if room == "lab" {
        return None;
    }
    let owned = OWNED
        .iter()
        .find(|owned| owned.names.iter().any(|own| matches(own, name)))?;
    (!owned.owners.contains(&room)).then(|| owned.owners.join(", "))
}

/// The exception under which `room` knows only a part of its neighbour.
pub fn part(room: &str, neighbour: &str) -> Option<&'static str> {
    let exception = EXCEPTIONS
        .iter()
        .find(|e| e.room == room && e.knows == neighbour)?;
    exception.only
}

/// The crate that a path lies in.
pub fn room(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

/// Whether a crate holds one protocol, in three corners.
pub fn is_protocol_room(room: &str) -> bool {
    !HALLS.iter().any(|(hall, _)| *hall == room)
}

/// Whether a table's entry means the crate: `hickory-` means all of the family.
pub fn matches(entry: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let entry = entry.replace('-', "_");
    name == entry || (entry.ends_with('_') && name.starts_with(&entry))
}

fn may_know(room: &str, other: &str) -> bool {
    let hall = HALLS.iter().find(|(hall, _)| *hall == room);
    let known = hall.map_or(ROOM_KNOWS, |(_, known)| known);
    known.contains(&other)
        || known.contains(&EVERYONE)
        || EXCEPTIONS
            .iter()
            .any(|e| e.room == room && e.knows == other)
}

fn line_of(manifest: &str, name: &str) -> usize {
    let is_it = |line: &str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest
        .lines()
        .position(is_it)
        .map_or(1, |index| index + 1)
}

/// A crate from outside that only some rooms may name.
struct Owned {
    names: &'static [&'static str],
    owners: &'static [&'static str],
}

/// A room that knows another one.
struct Exception {
    room: &'static str,
    knows: &'static str,
    /// Only this module of it.
    only: Option<&'static str>,
}

const EVERYONE: &str = "*";

/// What a protocol room knows.
const ROOM_KNOWS: &[&str] = &["mapping", "gateway", "net"];

/// The crates that are no protocol room, and what they know.
const HALLS: &[(&str, &[&str])] = &[
    ("gateway", &["mapping", "store", "net"]),
    ("lab", &[EVERYONE]),
    ("mapping", &[]),
    ("net", &["mapping"]),
    ("portico", &[EVERYONE]),
    ("store", &["mapping"]),
    ("xtask", &[]),
];

const EXCEPTIONS: &[Exception] = &[
    // Both protocols live on UDP 5351 (RFC 6887 appendix A).
    Exception {
        room: "pcp",
        knows: "natpmp",
        only: None,
    },
    Exception {
        room: "upstream",
        knows: "pcp",
        only: Some("wire"),
    },
    Exception {
        room: "upstream",
        knows: "natpmp",
        only: Some("wire"),
    },
];

const OWNED: &[Owned] = &[
    Owned {
        names: &["anyhow", "clap", "clap-"],
        owners: &["portico", "xtask"],
    },
    Owned {
        names: &["axum", "axum-", "hyper", "hyper-"],
        owners: &["dashboard", "upnp", "notify"],
    },
    Owned {
        names: &["hickory-"],
        owners: &["dns"],
    },
    Owned {
        names: &["igd-next"],
        owners: &["upstream"],
    },
    Owned {
        names: &["libc", "netlink-", "nix", "rtnetlink", "rustix", "socket2"],
        owners: &["net"],
    },
    Owned {
        names: &["miette"],
        owners: &["portico"],
    },
    Owned {
        names: &["nftables"],
        owners: &["firewall"],
    },
    Owned {
        names: &["prometheus", "prometheus-"],
        owners: &["dashboard"],
    },
    Owned {
        names: &["quick-xml"],
        owners: &["upnp"],
    },
    Owned {
        names: &["libsqlite3-sys", "rusqlite", "sqlx", "sqlx-"],
        owners: &["store"],
    },
];

const RUNTIMES: &[&str] = &[
    "async-std",
    "futures",
    "futures-",
    "mio",
    "polling",
    "smol",
    "tokio",
    "tokio-",
];

const SQL: &[&str] = &[
    "ALTER TABLE ",
    "BEGIN IMMEDIATE",
    "CREATE INDEX ",
    "CREATE TABLE ",
    "DELETE FROM ",
    "DROP TABLE ",
    "INSERT INTO ",
    "INSERT OR ",
    "PRAGMA ",
    "REPLACE INTO ",
    "SELECT ",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Dependency;

    #[test]
    fn mapping_knows_nobody_and_no_runtime() {
        let manifest = "[dependencies]\nstore.workspace = true\ntokio = \"1\"\n";

        let findings = knows(
            &member("mapping", &["store", "tokio", "imbl"]),
            HOUSE,
            manifest,
        );

        let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn store_and_gateway_know_their_own_doors_only() {
        assert_eq!(knows(&member("store", &["mapping"]), HOUSE, ""), []);
        assert_eq!(knows(&member("store", &["gateway"]), HOUSE, "").len(), 1);
        assert_eq!(
            knows(&member("gateway", &["mapping", "store", "net"]), HOUSE, ""),
            []
        );
        assert_eq!(knows(&member("gateway", &["pcp"]), HOUSE, "").len(), 1);
    }

    #[test]
    fn rooms_do_not_know_each_other_but_for_the_written_exceptions() {
        assert_eq!(
            knows(
                &member("pcp", &["mapping", "gateway", "net", "natpmp"]),
                HOUSE,
                ""
            ),
            []
        );
        assert_eq!(knows(&member("natpmp", &["pcp"]), HOUSE, "").len(), 1);
        assert_eq!(knows(&member("dns", &["store"]), HOUSE, "").len(), 1);
        assert_eq!(knows(&member("upnp", &["lab"]), HOUSE, "").len(), 1);
        assert_eq!(
            knows(&member("newroom", &["dns", "gateway"]), HOUSE, "").len(),
            1
        );
        assert_eq!(knows(&member("pcp", &["newroom"]), HOUSE, "").len(), 1);
        assert_eq!(
            knows(&member("portico", &["pcp", "lab", "store"]), HOUSE, ""),
            []
        );
    }

    #[test]
    fn tests_may_know_more() {
        let mut pcp = member("pcp", &["store", "hickory-proto"]);
        for dependency in &mut pcp.dependencies {
            dependency.dev = true;
        }

        assert_eq!(knows(&pcp, HOUSE, ""), []);
        assert_eq!(owns(&pcp, ""), []);
    }

    #[test]
    fn a_crate_with_an_owner_is_nobody_elses_dependency() {
        let manifest = "mapping.workspace = true\nhickory-proto.workspace = true\n";

        let findings = owns(&member("dhcp", &["mapping", "hickory-proto"]), manifest);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        assert_eq!(findings[0].advice, "hickory-proto belongs to dns");
        assert_eq!(owns(&member("dns", &["hickory-proto"]), ""), []);
        assert_eq!(owns(&member("lab", &["hickory-proto", "igd-next"]), ""), []);
    }

    #[test]
    fn sql_outside_of_the_store_is_found() {
        let text = "fn a() {\n    run(\"SELECT id FROM host\");\n}\n";

        assert_eq!(
            sql(&Source::new("crates/gateway/src/writer.rs", text))[0].line,
            2
        );
        assert_eq!(sql(&Source::new("crates/store/src/write.rs", text)), []);
        let state = "fn a() { log(\"SELECTING\"); } // SELECT in a comment\n";
        assert_eq!(sql(&Source::new("crates/dhcp/src/server.rs", state)), []);
    }

    const HOUSE: &[&str] = &[
        "dns", "gateway", "lab", "mapping", "natpmp", "net", "newroom", "pcp", "store", "upnp",
    ];

    fn member(name: &str, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|name| Dependency {
                    name: (*name).to_owned(),
                    dev: false,
                })
                .collect(),
            ..Crate::default()
        }
    }
}
