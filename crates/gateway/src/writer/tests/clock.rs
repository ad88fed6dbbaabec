//! Time that passes, stands still and jumps.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_mapping_closes_at_its_end_though_nobody_asks() {
    let home = Home::new().await;
    home.map(1, 8080).await;

    tokio::time::sleep(Duration::from_secs(3599)).await;
    assert_eq!(home.open_ports(), [8080]);
    tokio::time::sleep(Duration::from_millis(1100)).await;

    assert_eq!(home.open_ports(), NONE);
    assert_eq!(home.disk.ports(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_expires_nothing() {
    let home = Home::new().await;
    home.map(1, 8080).await;

    home.time.set_wall(2_000_000_000);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(home.open_ports(), [8080]);
    // written down, so that a reboot after the step does not count it as time off
    assert!(home.disk.image().meta.anchor.wall.as_secs() >= 2_000_000_000);

    home.time.set_wall(1_000_000_000);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(home.open_ports(), [8080]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_same_boot_goes_by_the_boots_clock() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    time.set_wall(2_000_000_000);
    tokio::time::sleep(Duration::from_secs(3000)).await;

    let home = Home::again(disk, time, BootId([1; 16])).await;

    assert_eq!(home.open_ports(), [8080]);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(home.open_ports(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_reboot_counts_the_time_that_the_machine_was_off() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let wall = home.time.now().wall.as_secs();
    let epoch = home.handle.snapshot().pcp_epoch(home.time.now());
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    time.boot(wall + 3000);

    let home = Home::again(disk.clone(), time, BootId([2; 16])).await;

    assert_eq!(home.open_ports(), [8080]);
    let now = home.handle.snapshot().pcp_epoch(home.time.now());
    assert!((epoch + 2990..epoch + 3010).contains(&now), "{epoch} {now}");
    assert_eq!(
        disk.image().mappings[0].expires.unwrap().boot,
        BootNumber(1)
    );
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(home.open_ports(), NONE);
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_the_machine_was_off_never_opens_again() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let wall = home.time.now().wall.as_secs();
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    time.boot(wall + 4000);
    disk.fate(&[], Fate::FailBefore);

    let home = Home::again(disk, time, BootId([2; 16])).await;

    assert_eq!(
        home.open_ports(),
        NONE,
        "even if the disk cannot be written"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_without_a_clock_what_is_left_stands_still_until_the_time_is_known() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let wall = home.time.now().wall.as_secs();
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    time.boot(1_000); // 1970

    let home = Home::again(disk.clone(), time.clone(), BootId([2; 16])).await;
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(home.open_ports(), [8080]);
    let mapping = Arc::clone(home.handle.snapshot().mappings().next().unwrap());
    let left = home
        .handle
        .snapshot()
        .remaining(mapping.expires.unwrap(), time.now());
    assert!((3595..=3600).contains(&left.as_secs()), "{left:?}");

    // a second reboot without a clock changes nothing
    home.stop().await.unwrap();
    time.boot(2_000);
    let home = Home::again(disk, time.clone(), BootId([3; 16])).await;
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(home.open_ports(), [8080]);

    time.set_wall(wall + 3000);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(home.open_ports(), [8080]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(home.open_ports(), NONE);
}
