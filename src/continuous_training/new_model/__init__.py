"""New models: `ct new` writes a package from data, `ct remove` deletes one.

In the order of `ct new`: `names` checks the model's name, `origin` opens the data, `profile` describes its columns,
`roles` chooses what each column is, `periods` chooses the windows of time, `package` writes the files, and `trial` runs
the checks of a run on them and fits the model once.
"""
