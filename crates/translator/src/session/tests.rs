use super::*;

#[test]
fn entry_is_small() {
    assert_eq!(size_of::<Option<Entry>>(), 96);
}
