"""Official data sets: one file of constants each, and a short loader below.

`mulap.data.official_files` reads the lists and tables that they come with. A file holds `TASKS`,
name -> task, and `read(task, folder, split_name)`; `mulap.tasks.registry` joins them.
"""
