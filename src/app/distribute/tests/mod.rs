mod audit;
mod house;
mod life;
pub(in crate::app) mod rig;
