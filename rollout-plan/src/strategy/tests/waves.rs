use super::*;
use proptest::prelude::*;

/// Returns the waves in short: label, end, nodes if they are named, and `!` before an approval.
fn shown(keys: &str) -> Vec<String> {
    let show = |wave: &Wave| {
        let named = wave.named.as_ref().map_or_else(String::new, |nodes| format!(" ={}", nodes.len()));
        format!("{}: {}{named}{}", wave.label, wave.end, if wave.approve { " !" } else { "" })
    };
    parse(keys).unwrap().waves.iter().map(show).collect()
}

#[test]
fn amounts_are_cumulative_and_the_last_wave_has_the_rest() {
    for (keys, expected) in [
        ("waves = ['1', '10%', '100%']\napprove = ['1']", &["1: 1 !", "10%: 10", "100%: 100"][..]),
        ("waves = [1, '10%']\napprove = [1, '10%']", &["1: 1 !", "10%: 10 !", "100%: 100"]),
        ("waves = []", &["100%: 100"]),
        ("waves = ['200']", &["200: 100"]),
        ("waves = ['cn[001,050]', '10%']", &["cn[001,050]: 2 =2", "10%: 10", "100%: 100"]),
        (
            "waves = ['1', 'cn[002-003]', '50%']\napprove = ['cn002,cn003']",
            &["1: 1", "cn[002-003]: 3 =2 !", "50%: 50", "100%: 100"],
        ),
        ("waves = ['cn[001-060]', 'cn[061-100]']", &["cn[001-060]: 60 =60", "cn[061-100]: 100 =40"]),
    ] {
        assert_eq!(shown(keys), expected, "{keys}");
    }
}

#[test]
fn a_wave_that_adds_no_node_is_one_with_the_wave_before() {
    let few = "never = 'cn[006-100]'\n";
    for (keys, expected) in [
        ("waves = ['1', '10%', '100%']", &["1: 1", "100%: 5"][..]),
        ("waves = ['1', '10%', '100%']\napprove = ['10%']", &["1: 1 !", "100%: 5"]),
        ("waves = ['4', '80%', '90%', '7']", &["4: 4", "7: 5"]),
    ] {
        assert_eq!(shown(&format!("{few}{keys}")), expected, "{keys}");
    }
    let one = "never = 'cn[002-100]'\nwaves = ['1', '10%', '100%']\napprove = ['1']";
    assert_eq!(shown(one), ["1: 1"], "nothing comes after it");
}

#[test]
fn refuses_waves_that_make_no_sense() {
    assert_refused(&[
        ("waves = ['10', '5%']", "strategy.waves[2]: 5% of 100 nodes are 5, fewer than the 10"),
        ("waves = ['cn[001-020]', '10%']", "strategy.waves[2]: 10% of 100 nodes are 10, fewer than the 20"),
        ("waves = ['1', 1]", "strategy.waves[2]: 1 twice"),
        ("waves = ['cn[001-002]', 'cn[002-003]']", "strategy.waves[2]: cn002: in an earlier wave"),
        ("waves = ['cn[100-101]']", "strategy.waves[1]: cn101: not among"),
        ("waves = ['cn001']\nnever = 'cn001'", "strategy.waves[1]: cn001: not among"),
        (
            "waves = ['50%', 'cn[001-060]']",
            "strategy.waves[1]: 50 nodes by then, but later waves name 60 of 100",
        ),
        ("waves = ['0']", "no amount"),
        ("waves = [0]", "no amount"),
        ("waves = [-1]", "no amount"),
        ("waves = [true]", "a count from 1, a percentage"),
        ("waves = ['cn[1-']", "strategy.waves[1]"),
        ("waves = '10%'", "line 8, column 9"),
        ("approve = ['1']", "strategy.approve[1]: no wave 1: there is none"),
        ("waves = ['1', '10%']\napprove = ['1', '5%']", "strategy.approve[2]: no wave 5%: 1, 10%"),
        ("waves = ['1', '100%']\napprove = ['100%']", "strategy.approve[1]: 100% is the last wave"),
        ("waves = ['1']\napprove = ['1', '1']", "strategy.approve[2]: 1 twice"),
        (
            "waves = ['cn001']\nmax_out = 2\ngroup = [{ name = 'g', nodes = 'cn[001-002]' }]",
            "strategy.waves[1]: only a part of the group g",
        ),
    ]);
}

proptest! {
    #[test]
    fn waves_grow_and_end_with_the_last_node(
        percents in proptest::collection::btree_set(1u8..=100, 0..8),
        total in 1usize..300,
    ) {
        let nodes = nodes(&format!("n[1-{total}]"));
        let waves: Vec<String> = percents.iter().map(|percent| format!("'{percent}%'")).collect();
        let text = format!("[strategy]\nwaves = [{}]", waves.join(", "));
        let strategy = of_manifest(&text, &nodes).unwrap();
        let ends: Vec<usize> = strategy.waves.iter().map(|wave| wave.end).collect();
        prop_assert!(ends.first() > Some(&0) && ends.last() == Some(&total));
        prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
    }
}
