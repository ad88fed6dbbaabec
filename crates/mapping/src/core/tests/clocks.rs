//! Deadlines over restarts, reboots and steps of the wall clock.

use super::*;

#[test]
fn same_boot_restores_deadlines_exactly_whatever_the_wall_clock_says() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    home.now.mono += Duration::from_secs(600);
    home.now.wall = Wall::from_secs(4_000_000_000);
    let epoch = home.core.snapshot().pcp_epoch(home.now);

    let core = home.restart(BOOT);

    let mapping = core.snapshot().mappings().next().unwrap();
    let left = core
        .snapshot()
        .remaining(mapping.expires.unwrap(), home.now);
    assert_eq!(left, HOUR - Duration::from_secs(600));
    assert_eq!(core.snapshot().pcp_epoch(home.now), epoch);
}

#[test]
fn reboot_counts_the_time_that_the_machine_was_off() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    home.now.wall = home.now.wall + Duration::from_secs(900);
    home.now.mono = Instant::from_nanos(7);

    let core = home.restart(BootId([9; 16]));

    let mapping = core.snapshot().mappings().next().unwrap();
    let left = core
        .snapshot()
        .remaining(mapping.expires.unwrap(), home.now);
    assert_eq!(left, HOUR - Duration::from_secs(900));
    assert_eq!(core.snapshot().pcp_epoch(home.now), 900);
}

#[test]
fn reboot_without_a_clock_freezes_what_is_left_until_time_is_known() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    let wall = home.now.wall;
    home.now = Now {
        mono: Instant::from_nanos(7),
        wall: Wall::from_secs(100),
    };
    let mut core = home.restart(BootId([9; 16]));
    let left = |core: &Core, now| {
        let mapping = core.snapshot().mappings().next()?;
        Some(core.snapshot().remaining(mapping.expires?, now))
    };

    home.now.mono += HOUR * 5;
    core.handle_timeout(home.now);
    assert_eq!(left(&core, home.now), Some(HOUR), "frozen");

    home.now.wall = wall + Duration::from_secs(600);
    core.handle_timeout(home.now);
    assert_eq!(left(&core, home.now), Some(HOUR - Duration::from_secs(600)));

    home.now.mono += HOUR;
    core.handle_timeout(home.now);
    assert_eq!(left(&core, home.now), None);
}

#[test]
fn step_of_the_wall_clock_expires_nothing() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();

    for years in [10_u64, 60] {
        home.now.wall = Wall::from_secs(years * 365 * 86_400);
        home.core.handle_timeout(home.now);
        let batch = home.core.finish(home.now);
        assert_eq!(home.core.snapshot().mapping_count(), 1);
        assert_eq!(
            batch.delta.unwrap().meta.anchor.wall,
            home.now.wall,
            "written down at once"
        );
    }
}
