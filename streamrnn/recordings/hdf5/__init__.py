"""HDF5: plain, of MATLAB 7.3, of pandas, netCDF-4. By h5py, which only the process apart imports."""

from streamrnn.recordings.hdf5.file import open_recording

__all__ = ["open_recording"]
