def test_x(mount, album_mount, copy_of_samples):
    print(list(mount.path.iterdir()), len(list(copy_of_samples.rglob("*.dcm"))))
