//! What is asked for: a few pages very often, most of them rarely.

/// Pages by popularity: the one in place `n` is asked for in proportion to `1 / n^exponent`.
pub(crate) struct Zipf {
    /// The share of all requests that is for pages up to this place.
    up_to: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(pages: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=pages)
            .map(|place| {
                sum += f64::from(place).powf(-exponent);
                sum
            })
            .collect();
        for share in &mut up_to {
            *share /= sum;
        }
        Self { up_to }
    }

    /// The next page that is asked for.
    pub(crate) fn next(&self, dice: &mut fastrand::Rng) -> u32 {
        let at = dice.f64();
        self.up_to.partition_point(|share| *share <= at) as u32
    }

    /// The share of requests that are for the most popular pages: what a store of so many could answer at best, if it knew
    /// them.
    pub(crate) fn best(&self, pages: usize) -> f64 {
        self.up_to[pages.clamp(1, self.up_to.len()) - 1]
    }
}
