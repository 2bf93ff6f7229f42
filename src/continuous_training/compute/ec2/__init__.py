"""Training on EC2, on instances that are terminated in every case. ../README.md is the guide.

In reading order: `training` is the entry point. `account` and `tags` hold what the environment configures, `aws` the
clients. `bundle` and `storage` upload code and rows to S3. `images`, `prices`, `budget`, `user_data` and `launch` start
an instance with its deadline, `watcher` follows it, `fleet` has all of a run. `termination` and `reap` end instances.
`bake_ami` and `image_lifecycle` create images with the packages of a model.
"""
