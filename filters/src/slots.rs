//! Per-exchange state of filters, one typed place per position in the chain.

use std::any::Any;

/// Most filters keep no state, so nothing is allocated until the first one does.
#[derive(Default)]
pub(crate) struct Slots(Vec<Option<Box<dyn Any + Send>>>);

impl Slots {
    pub(crate) fn get_mut<T: 'static>(&mut self, position: usize) -> Option<&mut T> {
        self.0.get_mut(position)?.as_mut()?.downcast_mut()
    }

    pub(crate) fn set<T: Send + 'static>(&mut self, position: usize, state: T) {
        self.set_boxed(position, Box::new(state));
    }

    pub(crate) fn set_boxed(&mut self, position: usize, state: Box<dyn Any + Send>) {
        if self.0.len() <= position {
            self.0.resize_with(position + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(position) {
            *slot = Some(state);
        }
    }

    pub(crate) fn take<T: 'static>(&mut self, position: usize) -> Option<T> {
        let slot = self.0.get_mut(position)?;
        if slot.as_ref().is_some_and(|state| state.is::<T>()) {
            slot.take()?.downcast().ok().map(|state| *state)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn state_belongs_to_a_position_and_a_type() {
        let mut slots = Slots::default();
        slots.set(3, 7_u32);
        assert_eq!(slots.get_mut::<u32>(3), Some(&mut 7));
        assert_eq!(slots.get_mut::<u64>(3), None);
        assert_eq!(slots.get_mut::<u32>(2), None);
        assert_eq!(slots.take::<u64>(3), None);
        assert_eq!(slots.take::<u32>(3), Some(7));
        assert_eq!(slots.take::<u32>(3), None);
    }
}
