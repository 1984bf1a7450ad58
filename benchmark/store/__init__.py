"""Files of a store. This package creates and parses their names, except `reports/rows-HASH` (commands/report.py).

A new kind of file needs a line here, a pattern in `_OWN_NAMES` (`sealed.py`) and an entry in `_KINDS` (`upkeep.py`).

    STORE/                                a folder, s3:// or gs://; by default `store` in the cache folder
      embeddings/VIEW/                    one view of a data set under one backbone           embeddings.py
        about.json                        description, and everything that VIEW depends on
        part-00000.parquet ...            the embeddings of one chunk of images each
        rejected-00000.json ...           (image id, path, reason) of the chunk's unreadable images
        speed.json                        speed of the last run that embedded something here
      made/TIME-NUMBER.parquet            record of a run: encoders, chunks, seconds, recomputed chunks    made.py
      made/TIME-NUMBER.open.parquet       record of a run that has not ended, rewritten every 30 s
      sums/VIEW/SPLIT/                    moments, if small beside embeddings; VIEW is of the originals   moments.py
        images.safetensors                sums over the images themselves, by cell
        PAIRS.safetensors                 sums over the differences of images and views
      texts/TEXTS.parquet                 the embeddings of class names in prompts
      texts/pairs-PAIRS.parquet           the embeddings of text pairs
      texts/prompts-PROMPTS.parquet       the embeddings of the prompts of a projection
      imported/DATASET/                   description of imported embeddings      imported_embeddings.py
        images-DATA.parquet               identity, environment, class and group of every image
        BACKBONE-LABEL.json               facts, texts and views under one backbone; written last
      clusters/CLUSTERS.parquet           cluster of each source image        moments.py
      rows/TRIAL.parquet                  result rows of a finished trial                      rows.py
      index/TRIALS.parquet                copy of the rows of many trials, for faster reading  row_index.py
      failed/TRIAL.json                   why a trial failed; the next sweep runs it again
      costs/measured-NUMBER.json          measured costs, for plans                      costs.py
      runs/RECIPE/INPUTS.json             trials of a run of a recipe                  records.py
      runs/RECIPE/INPUTS/TEST.json        id of the rows imported for one test of this run
      tested/TESTED.parquet               images of one test, as positions in an image list    tested.py
      images/IMAGES.parquet               image list: id, path, environment, class  tested.py
      reports/NAME-RECIPE-INPUTS/         tables, figures and the page of a run; `diagnose` and `unlabelled` write
                                          -diagnostics- or -unlabelled- before INPUTS
      reports/rows-HASH/                  tables, figures and the page of several recipes, or of whole stores
      details/, moments/                  of earlier versions; `store clean` removes them

Words in capitals are hashes of everything that the content depends on. VIEW: fingerprint of the data set, backbone,
intervention with seed, decoding. SPLIT: cells of all images, and whether embeddings are normalised. PAIRS: views.
TRIAL: all inputs of the rows. INPUTS: fingerprints of data and weights. IMAGES: fingerprints of the data. LABEL: label
of the backbone. CLUSTERS: embeddings of the originals, images, number, seed. Exceptions: NAME is the recipe's name,
DATASET and BACKBONE are names, DATA is the data set's fingerprint, TIME is the time of the run, and NUMBER is random.
Because of these names every recipe, user and machine finds the same files. Files are written atomically, and verified
at each read: Parquet and JSON by a digest of their bytes, before they are parsed; embeddings, moments, texts, clusters,
image lists and images of imports also by name and content (`sealed.py`). `upkeep.py` lists, verifies and cleans.
"""
