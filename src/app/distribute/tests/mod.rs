mod audit;
mod house;
mod life;
mod limits;
pub mod rig;
