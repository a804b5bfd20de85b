"""Reading: ben-ge trees, packs and folders of images, from the files on a disk to decoded batches on a device.

`dataset` reads a tree, `packing` and `packed` write and read its fast form, `images` reads a folder of images, and
`loading` makes a dataset ready by its name. What is wrong with a file is found here.
"""
