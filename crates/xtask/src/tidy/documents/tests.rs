use super::*;

#[test]
fn a_file_over_the_ceiling_is_found_and_tests_do_not_count() {
    let long = "fn a() {}\n".repeat(CEILING + 1);
    let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");

    assert_eq!(
        ceiling(&Source::new("crates/a/src/lib.rs", &long))[0].rule,
        "ceiling"
    );
    assert_eq!(ceiling(&Source::new("crates/a/src/lib.rs", &tested)), []);
    assert_eq!(ceiling(&Source::new("crates/a/src/b/tests.rs", &long)), []);
}

#[test]
fn a_mod_rs_is_found() {
    assert_eq!(
        mod_rs(&file("crates/a/src/b/mod.rs", ""))[0].advice,
        "rename it to crates/a/src/b.rs"
    );
    assert_eq!(mod_rs(&file("crates/a/src/b.rs", "")), []);
}

#[test]
fn a_module_that_architecture_names_and_nobody_has_is_found() {
    let paths = ["crates/dns/src/lib.rs", "crates/dns/src/zone.rs"];
    let found = |text| architecture(&file(ARCHITECTURE, text), &paths);

    assert_eq!(
        found("`dns::zone`, `dns::zone::Zone`, `dns::Dns`, `std::fmt`"),
        []
    );
    let gone = found("first\n`dns::zone` and `dns::zone::reverse`\n");
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].rule, gone[0].line), ("architecture", 2));
    assert!(gone[0].advice.ends_with("crates/dns/src/zone/reverse.rs"));
}

#[test]
fn a_crate_without_sentence_or_invariant_is_found() {
    let path = "crates/a/src/lib.rs";

    assert_eq!(crate_head(&file(path, "use std::fmt;\n")).len(), 1);
    assert_eq!(
        crate_head(&file(path, "//! Does a.\n\n// **Invariant:** none\n")).len(),
        1
    );
    assert_eq!(
        crate_head(&file(
            path,
            "//! Does a.\n//!\n//! **Invariant:** no I/O.\n"
        )),
        []
    );
}

#[test]
fn what_is_undone_says_so_in_one_way() {
    let source = Source::new(
        "crates/a/src/lib.rs",
        "// TODO: later\n// TODO-correctness: RFC 6887 §8.2 is missing\nlet a = \"TODO\";\n// FIXME\n",
    );

    assert_eq!(lines(&todo_in_rust(&source)), [1, 4]);
    assert_eq!(
        lines(&todo_elsewhere(&file("web/app.js", "a();\n// TODO b\n"))),
        [2]
    );
    assert_eq!(
        todo_elsewhere(&file("README.md", "TODO lists are fine in prose\n")),
        []
    );
}

#[test]
fn folders_of_a_machine_and_registries_are_found() {
    let text = format!(
        "a\ncd /{}/main\nfetch https://{}/simple\n",
        "work",
        REGISTRIES[6].concat()
    );

    assert_eq!(lines(&places(&file("README.md", &text))), [2, 3]);
    assert_eq!(places(&file("Cargo.lock", &text)), []);
}

#[test]
fn relative_paths_and_addresses_name_no_machine() {
    let text = "crates/home/src, GET /api/v1/home/, http://lab/home/, \"./work/\", $HOME/work/a\n";

    assert_eq!(places(&file("README.md", text)), []);
}

#[test]
fn conformance_tests_without_a_requirement_are_found() {
    let text = "#[test]\nfn renewal_is_granted() {}\n#[test]\nfn m_3_renewal_is_granted() {}\n";

    let source = Source::new("tests/conformance/rfc6887.rs", text);
    assert_eq!(lines(&conformance_names(&source)), [2]);
    assert_eq!(
        conformance_names(&Source::new("tests/e2e/main.rs", text)),
        []
    );
}

#[test]
fn sql_files_live_in_migrations() {
    assert_eq!(sql_files(&file("crates/dns/src/zone.sql", "")).len(), 1);
    assert_eq!(sql_files(&file("migrations/0001_create_host.sql", "")), []);
}

#[test]
fn migrations_have_a_number_a_verb_and_a_noun() {
    let paths = [
        "migrations/0001_create_hosts.sql",
        "migrations/0001_add_names.sql",
        "migrations/2_add_names.sql",
        "migrations/0003_init.sql",
        "migrations/0004_Add_names.sql",
        "migrations/HASHES",
    ];

    let findings = migration_names(&paths);

    let found: Vec<_> = findings
        .iter()
        .map(|finding| finding.path.as_str())
        .collect();
    assert_eq!(found, paths[1..5]);
}

#[test]
fn a_released_migration_that_changed_or_went_is_found() {
    let list = file(
        RELEASED,
        "aa migrations/0001_create_hosts.sql\nbb migrations/0002_add_names.sql\n\
         cc migrations/0004_add_leases.sql\n",
    );
    let paths = [
        "migrations/0001_create_hosts.sql",
        "migrations/0002_add_names.sql",
        "migrations/0003_add_late.sql",
        "migrations/0005_add_more.sql",
    ];
    let hash = |path: &str| match path {
        "migrations/0001_create_hosts.sql" => Some("aa".to_owned()),
        "migrations/0002_add_names.sql" => Some("edited".to_owned()),
        _ => None,
    };

    let findings = released_migrations(&list, &paths, hash);

    let found: Vec<_> = findings.iter().map(|f| (f.path.as_str(), f.line)).collect();
    assert_eq!(
        found,
        [
            (RELEASED, 2),
            (RELEASED, 3),
            ("migrations/0003_add_late.sql", 1)
        ]
    );
}

fn file(path: &str, text: &str) -> TextFile {
    TextFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn lines(findings: &[Finding]) -> Vec<usize> {
    findings.iter().map(|finding| finding.line).collect()
}
