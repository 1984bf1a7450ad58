"""What lies in a store. Names of its files are made in this room and nowhere else.

    STORE/                                a folder, s3:// or gs://; by default `store` in the cache folder
      embeddings/VIEW/                    one view of a data set under one backbone           embeddings.py
        about.json                        what it holds in words, and all that VIEW depends on
        part-00000.parquet ...            the embeddings of one chunk of images each
        rejected-00000.json ...           (image id, path, reason) of the chunk's images that cannot be read
        speed.json                        how fast the last run was that embedded something here
      made/TIME-NUMBER.parquet            who embedded which chunks in one run, how long, and what twice    made.py
      made/TIME-NUMBER.open.parquet       the same of a run that has not ended, as of half a minute ago
      moments/VIEW/SPLIT/                 sums over the embeddings, VIEW being that of the originals   moments.py
        images.safetensors                of the images themselves, for each cell
        KIND.safetensors                  of the differences that one kind of intervention makes
      texts/TEXTS.parquet                 the embeddings of class names in prompts
      texts/pairs-PAIRS.parquet           the embeddings of pairs of texts
      imported/DATASET/                   what is known of embeddings that were imported      imported_embeddings.py
        images-DATA.parquet               identity, environment, class and group of every image
        BACKBONE-LABEL.json               facts, texts and views under one backbone; written last
      clusters/IMAGES.parquet             in which cluster each of some source images lies        moments.py
      rows/TRIAL.parquet                  what a finished trial measured                      rows.py
      index/TRIALS.parquet                a copy of the rows of many trials, read in their place  row_index.py
      failed/TRIAL.json                   why a trial failed: it has no rows, and is tried again
      costs/measured-NUMBER.json          what work took here, for plans                      costs.py
      runs/RECIPE/INPUTS.json             which trials a run of a recipe has                  records.py
      runs/RECIPE/INPUTS/TEST.json        which rows were imported for one test of it
      tested/TESTED.parquet               the images of one test, by their positions in a list    tested.py
      images/IMAGES.parquet               that list: id, path, environment and class of each image  tested.py
      reports/NAME-RECIPE-INPUTS/         tables, figures and the page of a run

Words in capitals are hashes of what the content depends on (NAME is the recipe's, DATASET and BACKBONE are names; DATA
is the data set's fingerprint, LABEL the hash of the backbone's): VIEW of the data set's fingerprint,
the backbone, the intervention with its seed, and the decoding; SPLIT of the cells of all images and of whether
embeddings are at unit length; KIND of the views; TRIAL of all that its rows depend on; INPUTS of the fingerprints of
data and weights; IMAGES of the fingerprints of data alone. Hence whoever needs a file again finds it,
whatever recipe, user or machine made it. Files are written whole or not at all, and are compared with what was written
whenever they are read: Parquet and JSON by their bytes, before anything parses them, embeddings, moments and texts by
their names and content too (`sealed.py`). `upkeep.py` lists, verifies and cleans.
"""
