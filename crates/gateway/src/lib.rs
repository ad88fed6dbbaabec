//! The one writer of Portico: decide, persist, publish, await, answer.
