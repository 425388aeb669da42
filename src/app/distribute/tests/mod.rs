mod life;
mod rig;
