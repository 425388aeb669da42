mod audit;
mod house;
mod life;
mod limits;
pub(in crate::app) mod rig;
