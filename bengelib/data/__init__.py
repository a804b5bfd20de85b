"""Reading: datasets of ben-ge, packs and folders of images, from files on disk to decoded batches on a device.

`dataset` reads ben-ge, `packing` and `packed` write and read its fast form, `described` reads any dataset with a
`dataset.toml`, `images` a folder of images, and `loading` prepares a dataset by name. Faults of files are found here.
"""
