mod audit;
mod life;
mod rig;
