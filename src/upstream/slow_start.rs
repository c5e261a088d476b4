//! A newcomer's share of the requests grows from a tenth to the whole: its caches are cold, its code not compiled yet.

use std::time::Duration;

/// What a newcomer begins with, of the share its weight gives it.
const FIRST: f32 = 0.1;

/// The share at a time after the beginning: in a straight line up to the whole at the end of the window.
pub(super) fn share(window: Duration, after: Duration) -> f32 {
    if after >= window {
        return 1.0;
    }
    FIRST + (1.0 - FIRST) * (after.as_secs_f32() / window.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole() {
        let window = Duration::from_secs(30);
        for (seconds, expected) in [(0, 0.1), (10, 0.4), (15, 0.55), (29, 0.97), (30, 1.0), (1000, 1.0)] {
            let share = share(window, Duration::from_secs(seconds));
            assert!((share - expected).abs() < 0.001, "{seconds}: {share}");
        }
        assert!((share(Duration::ZERO, Duration::ZERO) - 1.0).abs() < f32::EPSILON);
    }
}
