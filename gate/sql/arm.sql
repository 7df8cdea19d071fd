-- The traces of one arm: what ran this suite's cases as this version, or in this run.
SELECT *
FROM traces_v
WHERE CaseId != ''
  AND Suite IN ('', {suite:String})
  AND ({service:String} = '' OR Service = {service:String})
  AND ({kind:String} = 'version' AND ServiceVersion = {value:String} OR {kind:String} = 'run' AND RunId = {value:String})
