mod audit;
mod house;
mod life;
mod rig;
